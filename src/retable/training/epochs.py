"""Where a fit is: in which epoch, and whether that one has validated."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl


def epoch_of(trainer: pl.Trainer) -> int:
    """Epochs finished so far: the number of the epoch that is about to run."""
    progress = cast("Any", trainer.fit_loop.epoch_progress.current)
    return int(progress.processed)


def has_validated(trainer: pl.Trainer) -> bool:
    """Whether the epoch that has just been processed ended with a validation."""
    every = trainer.check_val_every_n_epoch or 1
    return epoch_of(trainer) % every == 0
