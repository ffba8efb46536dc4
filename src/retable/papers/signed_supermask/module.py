"""Training of a mask over frozen weights, or of the weights themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import Arrays, PaperModule, StepOutput
from retable.papers.signed_supermask.initial import Initial
from retable.papers.signed_supermask.masks import Layer, mask_layer, mask_of, weighted
from retable.papers.signed_supermask.packed import can_pack, pack, plain, save, sizes, unpack
from retable.papers.signed_supermask.sgdw import ExponentialDecay, Plateau
from retable.training.seeds import derive_seed

_BY_LAYER = 30
"""Masked layers up to which a run records shares of each."""


class Supermask(PaperModule):
    """A network of which masks are trained, or its weights where no mask is given.

    Beside accuracy a run records of its masks the remaining weights, of all layers together
    (``weights/remaining``, ``weights/remaining_thousands``), and by layer, from 1, the shares that
    are kept and inverted (``weights/kept``, ``weights/inverted``; ``train/kept_1`` and so on are
    their curves). Signed constants are also packed (:mod:`.packed`): ``packed/bytes``,
    ``packed/dense_bytes``, ``packed/ratio``, and of the test images ``packed/changed_predictions``.
    It leaves the first layer's mask (artefact ``first_layer``) and, by input, the
    shares of units that keep and invert it (``masks``).

    Args:
        seed: the run's seed; weights and scores are drawn from it.
        net: network without biases; its convolutions and dense layers are masked.
        weights: their initial values.
        mask: recipe of the masks, of :mod:`.masks`; None trains the weights.
        optimizer: ``_partial_`` of an optimiser.
        scheduler: ``_partial_`` of a scheduler.
        scheduler_interval: when it is stepped.
        scheduler_monitor: what a plateau scheduler follows.
        channels_last: see the base.
    """

    def __init__(
        self,
        *,
        seed: int,
        net: nn.Module,
        weights: Any,
        mask: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "step",
        scheduler_monitor: str = "train/loss",
        channels_last: bool = False,
    ) -> None:
        if not isinstance(weights, Initial):
            raise ValueError(f"model.weights: expected an Initial, not a {type(weights).__name__}")
        self._given = (net,)  # a module cannot be kept as one before the base is there
        self.initial, self.recipe = weights, mask
        self.layers: list[Layer] = []
        super().__init__(
            seed=seed,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            scheduler_monitor=scheduler_monitor,
            channels_last=channels_last,
        )

    def build_model(self) -> None:
        """The network with its weights, and a mask on each."""
        net = self._given[0]
        del self._given
        draws = torch.Generator().manual_seed(derive_seed(self.seed, "weights"))
        scores = torch.Generator().manual_seed(derive_seed(self.seed, "scores"))
        layers = [layer for _, layer in weighted(net)]
        self.n_weights = sum(layer.weight.numel() for layer in layers)
        for layer in layers:
            with torch.no_grad():
                layer.weight.copy_(self.initial.draw(layer.weight, draws))
            if self.recipe is not None:
                mask_layer(layer, self.recipe, scores)
        self.net = net
        self.layers = layers if self.recipe is not None else []
        self.n_classes: int = layers[-1].weight.shape[0]

    def build_metrics(self) -> None:
        """Accuracy over all images."""
        metric = MulticlassAccuracy(self.n_classes, average="micro")
        self.use_metrics(MetricCollection({"accuracy": metric}))

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Cross-entropy and logits of a batch ``(B, C, H, W), (B,)``."""
        images, labels = batch
        logits = self.net(images).float()
        return StepOutput(F.cross_entropy(logits, labels), logits, labels)

    def on_train_start(self) -> None:
        """Tell the schedule how many steps an epoch has."""
        super().on_train_start()
        schedule = self.lr_schedulers()
        if isinstance(schedule, ExponentialDecay) and schedule.steps_per_epoch is None:
            schedule.steps_per_epoch = int(self.trainer.num_training_batches)

    def on_train_epoch_end(self) -> None:
        """Log what remains, and end where the plateau schedule has made its last reduction."""
        super().on_train_epoch_end()
        if self.layers:
            kept, inverted = self._counts()
            values = {"train/remaining": (kept.sum() + inverted.sum()) / self.n_weights}
            for number, shares in self._by_layer(kept, inverted):
                names = (f"train/kept_{number}", f"train/inverted_{number}")
                values |= dict(zip(names, shares, strict=True))
            self.log_dict(values, batch_size=1)
        schedule = self.schedule.scheduler
        if isinstance(schedule, Plateau) and schedule.done:
            self.trainer.should_stop = True

    def _counts(self) -> tuple[Tensor, Tensor]:
        """Entries +1 and -1 of every layer's mask, ``(L,)`` each, in float64 on the CPU."""
        masks = [mask_of(layer) for layer in self.layers]
        found = [torch.stack([(m == sign).sum() for m in masks]) for sign in (1, -1)]
        kept, inverted = (n.double().cpu() for n in found)
        return kept, inverted

    def _by_layer(self, kept: Tensor, inverted: Tensor) -> list[tuple[int, Tensor]]:
        """Number of a layer, from 1, and its two shares; none where layers are many."""
        if len(kept) > _BY_LAYER:
            return []
        sizes = torch.tensor([layer.weight.numel() for layer in self.layers])
        return list(enumerate(torch.stack([kept, inverted], 1) / sizes[:, None], start=1))

    def on_test_epoch_end(self) -> None:
        """Record what the masks leave."""
        super().on_test_epoch_end()
        self.add_result("weights/parameters", self.n_weights)
        if not self.layers:
            return
        kept, inverted = self._counts()
        remaining = float(kept.sum() + inverted.sum())
        self.add_result("weights/remaining", remaining / self.n_weights)
        self.add_result("weights/remaining_thousands", remaining / 1000)
        for number, (share, other) in self._by_layer(kept, inverted):
            self.add_result("weights/kept", float(share), step=number)
            self.add_result("weights/inverted", float(other), step=number)
        if can_pack(self.layers):
            self._deploy()

    def _deploy(self) -> None:
        """Pack the network, and test what is unpacked beside the network it comes from."""
        tensors, layers = pack(self.net)
        state = unpack(tensors, layers)
        deployed = plain(self.net)
        deployed.load_state_dict(state)
        changed = 0
        loader: Any = cast("Any", self.trainer).datamodule.test_dataloader()
        with torch.no_grad():
            for images, _ in loader:
                given = images.to(self.device)
                changed += int((deployed(given).argmax(1) != self.net(given).argmax(1)).sum())
        self.add_result("packed/changed_predictions", changed)
        for name, count in sizes(tensors, state).items():
            self.add_result(f"packed/{name}", count)

    def export(self, file: Path, data: Any) -> str:
        """Write the network with ternary weights (:mod:`.packed`)."""
        if not self.layers:
            raise ValueError("model.mask is null: the weights are trained, and not ternary")
        size = save(self.net, file)
        return f"{size['bytes']:.0f} bytes, {size['ratio']:.1f} times less than in float32"

    def artifacts(self) -> dict[str, Arrays]:
        """The first layer's mask, and its shares by input as an image."""
        if not self.layers:
            return {}
        mask = mask_of(self.layers[0])
        shape = mask.shape[-2:] if mask.dim() == 4 else _image(mask.shape[1])
        by_input = {
            name: (mask == sign).double().mean(0).view(-1, shape[-1]).float()
            for name, sign in (("kept", 1), ("inverted", -1))
        }
        return {"masks": by_input, "first_layer": {"mask": mask.to(torch.int8)}}


def _image(n: int) -> tuple[int, int]:
    """Rows and columns of n numbers: a square where they make one."""
    side = round(n**0.5)
    return (side, side) if side * side == n else (1, n)
