"""Cheaper profiler and callbacks for Lightning: a small network's step takes milliseconds.

Around one training batch Lightning enters some fifty profiler contexts and calls six hooks of every
callback, whether it has them or not. `scripts/bench_overhead.py` measures what that costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.profilers import PassThroughProfiler

_NOTHING = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Lightning's default, which measures nothing, without a new context for every call."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A context that does nothing."""
        return _NOTHING


class Together(Checkpoint):
    """Several callbacks as one, called in their order, at the few hooks that a run needs.

    A subclass of Lightning's ``Checkpoint``, because those are called last: after the module's own
    hook (plateau scheduler, what it logs there) and after early stopping.
    """

    def __init__(self, members: Sequence[pl.Callback]) -> None:
        self.members = members

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of every member."""
        for member in self.members:
            member.on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of every member."""
        for member in self.members:
            member.on_train_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of every member."""
        for member in self.members:
            member.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of every member."""
        for member in self.members:
            member.on_train_epoch_end(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of every member."""
        for member in self.members:
            member.on_test_start(trainer, pl_module)

    def on_test_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Of every member."""
        for member in self.members:
            member.on_test_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of every member."""
        for member in self.members:
            member.on_test_end(trainer, pl_module)
