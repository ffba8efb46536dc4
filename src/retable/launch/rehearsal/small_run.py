"""What a small step and a small test are allowed that a run is not, and how long they may take."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Generator
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Trainer
from torch.serialization import skip_data

from retable.papers.base import PaperModule
from retable.training.checkpointing import Checkpointer

AGAIN_S = 1.0
"""Processor time after which a block is told once more that its time is over."""


class OneEpoch(pl.Callback):
    """Ends a fit after its first epoch; how many the run has, its module sees as in the run."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that it is enough."""
        trainer.should_stop = True


class TooLong(Exception):
    """What was done took too long."""


@contextlib.contextmanager
def finite_or_not() -> Generator[None]:
    """Leave out results that are not finite: a mean over a class of which no item is there."""
    add = PaperModule.add_result

    def tolerant(self: PaperModule, metric: str, value: float, *where: Any, **named: Any) -> None:
        if math.isfinite(value):
            add(self, metric, value, *where, **named)

    PaperModule.add_result = tolerant
    try:
        yield
    finally:
        PaperModule.add_result = add


@contextlib.contextmanager
def small_checkpoints() -> Generator[None]:
    """Make checkpoints as a run does, but for the bytes of their tensors, which nobody reads."""
    save = Checkpointer.save

    def skipping(self: Checkpointer, trainer: Trainer, *, fitted: bool) -> None:
        with skip_data():
            save(self, trainer, fitted=fitted)

    Checkpointer.save = skipping
    try:
        yield
    finally:
        Checkpointer.save = save


@contextlib.contextmanager
def at_most(seconds: float) -> Generator[None]:
    """End the block after so much processor time; in the main thread only, which has signals.

    Raises:
        TooLong: then, and again for as long as the block goes on, since Python ignores what is
            raised in a finaliser. A library that it happens in may make another error of it, or
            stumble over what it has left undone; whatever comes after the time is over is this one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    is_over = False

    def over(_number: int, _frame: object) -> None:
        nonlocal is_over
        is_over = True
        raise TooLong

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN_S)
    try:
        yield
    except Exception as error:
        if is_over and not isinstance(error, TooLong):
            raise TooLong from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
