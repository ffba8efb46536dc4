"""Training of a small network by Lightning, inside a run and without a trace of it.

A Trainer of its own within the run's: no file, no logger, no progress bar, one thread. Seeds are
local, and what Lightning sets for the whole process is put back.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from tempfile import gettempdir
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

Loss = Literal["square", "log"]
Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Schedule:
    """Training schedule of a network, full batches throughout.

    Attributes:
        rate: learning rate of Adam.
        steps: between two looks at the held-out rows; one of Lightning's epochs.
        patience: looks without a lower loss that end the training.
        max_epochs: looks at most.
    """

    rate: float
    steps: int
    patience: int
    max_epochs: int


def network(p: int, hidden: int, layers: int, generator: torch.Generator) -> nn.Sequential:
    """``p`` inputs, ``layers`` hidden layers of ``hidden`` ReLU units, one linear output.

    Initial weights have the law that torch gives them, uniform within ``1 / sqrt(inputs)``; they
    are drawn from ``generator``.
    """
    sizes = [p, *([hidden] * layers), 1]
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        assert isinstance(layer, nn.Linear)
        with torch.no_grad():
            for parameter in (layer.weight, layer.bias):
                parameter.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def loss_of(kind: Loss, output: Tensor, residual: Tensor, contrast: Tensor) -> Tensor:
    """Mean loss of ``output (n,)``.

    ``square``: ``(residual - contrast output)^2``, which is the R-loss and, with
    ``residual = sqrt(w) y`` and ``contrast = sqrt(w)``, the weighted squared error. ``log``: the
    log loss of the logit ``output`` at the outcome ``residual`` with the weight ``contrast``.
    """
    if kind == "log":
        return F.binary_cross_entropy_with_logits(output, residual, weight=contrast)
    return ((residual - contrast * output) ** 2).mean()


class Regressor(pl.LightningModule):
    """A network and its loss; keeps the weights that had the lowest loss on the held-out rows.

    Args:
        net: from ``(n, p)`` to ``(n, 1)``.
        kind: of the loss.
        schedule: of the training.
    """

    def __init__(self, net: nn.Sequential, kind: Loss, schedule: Schedule) -> None:
        super().__init__()
        self.net, self.schedule = net, schedule
        self.kind: Loss = kind
        self.best, self.best_loss, self.waited = self._weights(), float("inf"), 0

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.net.state_dict().items()}

    def _loss(self, batch: Batch) -> Tensor:
        x, residual, contrast = batch
        return loss_of(self.kind, self.net(x)[:, 0], residual, contrast)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of the rows that are fitted."""
        return self._loss(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Look at the held-out rows, which are one batch, and stop where they have had enough."""
        loss = float(self._loss(batch))
        if loss < self.best_loss:
            self.best, self.best_loss, self.waited = self._weights(), loss, 0
        else:
            self.waited += 1
        # A loss that is no number never gets lower either.
        if self.waited >= self.schedule.patience:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all weights."""
        return torch.optim.Adam(self.net.parameters(), lr=self.schedule.rate)


def train(regressor: Regressor, fitted: Batch, held: Batch, seed: int) -> None:
    """Fit the network to rows, stopping by others; afterwards it has its best weights.

    To be called within :func:`alone`.

    Args:
        regressor: network, loss and schedule.
        fitted: ``x (n, p)``, and the two columns ``(n,)`` of :func:`loss_of`.
        held: the same of the held-out rows.
        seed: of the loaders' generators, from which nothing that matters is drawn.
    """

    def loader(batch: Batch, times: int) -> DataLoader[Any]:
        # Without a generator of its own a loader draws from the global one.
        generator = torch.Generator().manual_seed(seed)
        data = cast("Dataset[Batch]", [batch] * times)
        return DataLoader(data, batch_size=None, generator=generator)

    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=regressor.schedule.max_epochs,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        plugins=[LightningEnvironment()],  # else a SLURM job's would look for its processes
        default_root_dir=gettempdir(),
    )
    trainer.fit(regressor, loader(fitted, regressor.schedule.steps), loader(held, 1))
    regressor.net.load_state_dict(regressor.best)
    regressor.net.eval()


@contextmanager
def alone() -> Generator[None]:
    """One thread and gradients, whatever is around; then everything as it was.

    Tensors that are trained on have to be made inside, lest they be those of an inference mode.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
