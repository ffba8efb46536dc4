"""Base of the runs that train networks of their own inside an epoch."""

from __future__ import annotations

from typing import Any, cast

import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT

from retable.data.fetch import DataUnavailable
from retable.papers.base import PaperModule


class OnAllImages(PaperModule):
    """A run whose epoch works on all training images at once, with optimisers of its own.

    A subclass has `work`; batches, and validation images as Lightning gives them, are not used.
    Precision is full, or that of ``bf16-mixed``.
    """

    splits = False

    def __init__(self, *, seed: int, optimizer: Any = None) -> None:
        self._automatic_optimization = False
        super().__init__(seed=seed, optimizer=optimizer)

    def configure_optimizers(self) -> Any:
        """No optimiser of the run: every training has its own.

        Raises:
            ValueError: for a precision whose losses are to be scaled; nothing here does so.
        """
        precision = self.trainer.precision
        if precision not in ("32-true", "bf16-mixed"):
            raise ValueError(
                f"trainer.precision: {precision} is not possible for {type(self).__name__}, whose"
                " own trainings do not scale the loss; 'bf16-mixed' is, or '32-true'"
            )
        return []

    @property
    def data(self) -> Any:
        """The run's data module, set up.

        Raises:
            DataUnavailable: where it is not, as in a rehearsal, which counts steps on one batch.
        """
        data = cast("Any", self.trainer).datamodule
        if data.train is None:
            raise DataUnavailable("a step works on all images at once, which are not set up")
        return data

    def work(self) -> dict[str, float]:
        """What an epoch does, and what it logs."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """The epoch's work, at its first batch."""
        if batch_idx:
            return
        mixed = self.trainer.precision == "bf16-mixed"
        # Within one step autocast keeps the casts of weights, here over many steps of an optimiser.
        with torch.autocast(self.device.type, torch.bfloat16, mixed, cache_enabled=False):
            found = self.work()
        self.log_dict(found, on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Nothing."""
        return None

    def on_validation_epoch_end(self) -> None:
        """Nothing."""

    def augmentation(self) -> Any:
        """Augmentation of training images; None: none.

        Raises:
            ValueError: for one that is known by a word.
        """
        given = self.data.augment
        if isinstance(given, str) and given != "none":
            raise ValueError(
                f"data.augment: {given} is not known here; Flip and ResizedCropFlip of"
                " retable.papers.subtuning.augment are"
            )
        return None if given == "none" else given
