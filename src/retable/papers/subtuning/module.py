"""Fine-tuning of some blocks of a pretrained network, all others frozen."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import PaperModule, Start, StepOutput
from retable.papers.subtuning import networks
from retable.papers.subtuning.lora import add_lora
from retable.papers.subtuning.networks import Blocks, Name
from retable.papers.subtuning.pruning import prune
from retable.papers.subtuning.variants import Siamese, reinitialise
from retable.papers.subtuning.weights import load_start
from retable.util.errors import UserError


class FineTune(PaperModule):
    """Trains chosen blocks and the head; everything else keeps its pretrained bits.

    Frozen blocks and the stem are in evaluation mode, so that statistics of their batch norm do
    not move either. Results: ``test/accuracy``, and ``tuned/parameters`` and ``tuned/share``,
    the number of those trained, and their share of the network's.

    Args:
        seed: the run's seed.
        network: see :data:`~retable.papers.subtuning.networks.Name`.
        n_classes: of the labels.
        size: side that images have for the network; others are resized to it.
        blocks: numbers from 1, ``none`` (linear probing), ``all`` (full fine-tuning), those of a
            stage, or what the search has ``found`` that the run starts from.
        stem: tune the stem too, as surgical fine-tuning of the first stage does; the authors never
            do.
        head: a new one, or the pretrained one (``kept``), which ``frozen`` does not train either.
        batch_norm: tuned parts use and update statistics of batches (the authors), or keep those
            of pretraining (``eval``, as surgical fine-tuning does).
        rank: LoRA in the attention of tuned blocks, of this rank.
        pruned: share of the last stage's channels that are removed before.
        reinitialised: draw tuned blocks anew.
        siamese: the head reads the frozen network's features too.
        optimizer: ``_partial_``.
        scheduler: ``_partial_`` of a scheduler.
        scheduler_interval: when it is stepped.
        channels_last: see the base.
    """

    splits = False

    def __init__(
        self,
        *,
        seed: int,
        network: Name,
        n_classes: Annotated[int, Field(ge=2)],
        size: Annotated[int, Field(ge=8)] | None = None,
        blocks: Sequence[Annotated[int, Field(ge=1)]]
        | Literal["none", "all", "found", "stage1", "stage2", "stage3", "stage4"],
        stem: bool = False,
        head: Literal["new", "kept", "frozen"] = "new",
        batch_norm: Literal["train", "eval"] = "train",
        rank: Annotated[int, Field(ge=1)] | None = None,
        pruned: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        reinitialised: bool = False,
        siamese: bool = False,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
        channels_last: bool = False,
    ) -> None:
        if siamese and head != "new":
            raise ValueError(f"model.head: {head} is not possible with siamese, whose head is new")
        self.network: Name = network
        self.n_classes, self.size, self.blocks, self.stem = n_classes, size, blocks, stem
        self.head: Literal["new", "kept", "frozen"] = head
        self.batch_norm, self.rank, self.pruned = batch_norm, rank, pruned
        self.reinitialised, self.siamese = reinitialised, siamese
        self.channels_last = channels_last
        super().__init__(
            seed=seed,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            channels_last=channels_last,
        )

    def build_model(self) -> None:
        """The network with what is tuned marked, without pretrained weights."""
        net = networks.network(self.network, self.n_classes, self.size)
        self._started = False
        self.tuned = networks.indices(self.blocks, self.network, len(net))
        self._use(net)

    def build_metrics(self) -> None:
        """Accuracy."""
        accuracy = MulticlassAccuracy(self.n_classes, average="micro")
        self.use_metrics(MetricCollection({"accuracy": accuracy}))

    def _use(self, net: Blocks) -> None:
        """Change the network as asked for, and freeze what is not tuned."""
        if self.pruned:
            prune(net, self.network, self.pruned)
        frozen = copy.deepcopy(net) if self.siamese else None
        for i in self.tuned:
            if self.reinitialised:
                reinitialise(net.blocks[i])
            if self.rank is not None:
                add_lora(net.blocks[i], self.rank)
        net.requires_grad_(False)
        self._tuned_parts = [net.blocks[i] for i in self.tuned] + ([net.stem] if self.stem else [])
        for part in self._tuned_parts:
            _unfreeze(part)
        self.net = net if frozen is None else Siamese(frozen, net, self.n_classes)
        if self.head != "frozen":
            self.net.fc.requires_grad_(True)

    def take_start(self, start: Start) -> None:
        """Take pretrained weights of a file or of another run, and the set that it has found."""
        self._started = True
        if self.blocks == "found":
            chosen = start.artifacts.get("search", {}).get("chosen")
            if chosen is None:
                raise UserError(
                    "model.blocks: found, but the run that this one starts from has chosen none;"
                    " start from a Search with model.sets: greedy"
                )
            self.tuned = tuple(int(i) for i in chosen.nonzero().flatten())
        net = networks.network(self.network, self.n_classes, self.size)
        if self.channels_last:  # the base has changed the network that this one replaces
            cast("Any", net).to(memory_format=torch.channels_last)
        load_start(net, start, self.network, "new" if self.head == "new" else "kept")
        self._use(net)

    def on_fit_start(self) -> None:
        """Refuse a run that is to tune what a search has found, and starts from none."""
        if self.blocks == "found" and not self._started:
            raise UserError(
                "model.blocks: found, but start is empty; start from a Search with model.sets:"
                " greedy"
            )

    def on_train_epoch_start(self) -> None:
        """Set the modes: Lightning leaves those that it finds, and a new module's are training."""
        self.train()

    def train(self, mode: bool = True) -> FineTune:
        """Training mode, of tuned parts alone."""
        super().train(mode)
        self.net.eval()
        if mode and self.batch_norm == "train":
            for part in self._tuned_parts:
                part.train()
        return self

    def optimized(self) -> Iterable[Any]:
        """What is tuned, and the head.

        Raises:
            ValueError: where that is nothing.
        """
        tuned = [p for p in self.net.parameters() if p.requires_grad]
        if not tuned:
            raise ValueError(
                f"model.head: frozen, with model.blocks: {self.blocks} nothing is trained; 'kept'"
                " trains the head, and 'stages: [test]' tests the network as it is"
            )
        return tuned

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Cross-entropy and logits of a batch ``(B, C, H, W), (B,)``."""
        images, labels = batch
        logits = self.net(images)
        return StepOutput(F.cross_entropy(logits, labels), logits, labels)

    def on_test_epoch_end(self) -> None:
        """Record how much was tuned."""
        super().on_test_epoch_end()
        tuned = sum(p.numel() for p in self.net.parameters() if p.requires_grad)
        self.add_result("tuned/parameters", tuned)
        self.add_result("tuned/share", tuned / sum(p.numel() for p in self.net.parameters()))


def _unfreeze(part: nn.Module) -> None:
    """Let a part be trained; attention that LoRA has frozen stays so."""
    frozen = {
        id(p)
        for module in part.modules()
        if isinstance(kept := getattr(module, "frozen", None), nn.Module)
        for p in kept.parameters()
    }
    for p in part.parameters():
        p.requires_grad_(id(p) not in frozen)
