"""Auto-RGN as a run: every tensor of the network is tuned, at a rate of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from retable.papers.subtuning.module import FineTune
from retable.papers.subtuning.networks import Blocks, Name
from retable.papers.subtuning.surgical import is_rated, relative_norms


class AutoRGN(FineTune):
    """Tunes stem, blocks and head, each tensor at the optimiser's rate times a weight.

    The weights are relative gradient norms (:func:`.surgical.relative_norms`) of the first training
    batches of every epoch, taken before it, in the modes of training and without a step; statistics
    of batch norm do not move by it. Affine parameters of batch norm are not trained. There is no
    scheduler, as in the code of Lee et al.: rates are set anew every epoch. Results are those of
    :class:`~retable.papers.subtuning.module.FineTune`.

    Args:
        seed: the run's seed.
        network: see :data:`~retable.papers.subtuning.networks.Name`.
        n_classes: of the labels.
        size: side that images have for the network; others are resized to it.
        head: as for FineTune; a frozen one has no part in the weights either.
        batch_norm: as for FineTune; Lee et al. keep the statistics of pretraining.
        batches: of which the weights are taken; fewer where an epoch has fewer.
        renewed: the optimiser's state begins anew at every epoch, as in their code.
        optimizer: ``_partial_``.
        channels_last: see the base.
    """

    def __init__(
        self,
        *,
        seed: int,
        network: Name,
        n_classes: Annotated[int, Field(ge=2)],
        size: Annotated[int, Field(ge=8)] | None = None,
        head: Literal["new", "kept", "frozen"] = "kept",
        batch_norm: Literal["train", "eval"] = "eval",
        batches: Annotated[int, Field(ge=1)] = 5,
        renewed: bool = True,
        optimizer: Any = None,
        channels_last: bool = False,
    ) -> None:
        self.batches, self.renewed = batches, renewed
        super().__init__(
            seed=seed,
            network=network,
            n_classes=n_classes,
            size=size,
            blocks="all",
            stem=True,
            head=head,
            batch_norm=batch_norm,
            optimizer=optimizer,
            channels_last=channels_last,
        )

    def _use(self, net: Blocks) -> None:
        super()._use(net)
        for name, p in net.named_parameters():
            if not is_rated(name):
                p.requires_grad_(False)

    def rated(self) -> dict[str, nn.Parameter]:
        """What is tuned, by its names in the network, in the order of the optimiser's groups."""
        return {name: p for name, p in self.net.named_parameters() if p.requires_grad}

    def optimized(self) -> Iterable[Any]:
        """A group for each tensor."""
        return [{"params": [p]} for p in self.rated().values()]

    def on_train_epoch_start(self) -> None:
        """Set the rates of the epoch."""
        super().on_train_epoch_start()
        trainer = self.trainer
        loader = cast("Any", trainer).datamodule.train_dataloader()
        batches = (trainer.strategy.batch_to_device(batch) for batch in loader)
        weights = relative_norms(
            self._gradients(itertools.islice(batches, self.batches)), self.rated()
        )
        [optimizer] = trainer.optimizers
        if self.renewed:
            optimizer.state.clear()
        for group, weight in zip(optimizer.param_groups, weights.values(), strict=True):
            group["lr"] = optimizer.defaults["lr"] * weight

    def _gradients(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """Gradients of the loss of each batch, by name; the network stays as it is."""
        rated = self.rated()
        for images, labels in batches:
            # Statistics move in copies.
            buffers = {name: b.clone() for name, b in self.net.named_buffers()}
            loss = F.cross_entropy(functional_call(self.net, buffers, (images,)), labels)
            found = torch.autograd.grad(loss, list(rated.values()))
            yield dict(zip(rated, found, strict=True))
