"""DataModule of whatever fits into memory as tensors of three splits."""

from __future__ import annotations

import torch
from torch import Tensor

from retable.data.base import DataPaths, PaperDataModule
from retable.data.tensor_loader import TensorLoader
from retable.training.epochs import epoch_of

Tensors = tuple[Tensor, ...]
"""Inputs ``(N, ...)``, targets ``(N, ...)`` and whatever else a batch has."""


class TensorSplits(PaperDataModule):
    """Base: training, validation and test, held on the run's device.

    Args:
        seed: the run's seed; the order of training items follows from it.
        paths: mirror and cache, given by the harness.
        batch_size: training items of a batch; a last one that is not full is kept.
        eval_batch_size: items of a batch of validation and test.
    """

    def __init__(
        self, *, seed: int, paths: DataPaths, batch_size: int, eval_batch_size: int
    ) -> None:
        super().__init__(seed=seed, paths=paths)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train: Tensors | None = None

    def splits(self) -> tuple[Tensors, Tensors, Tensors]:
        """Training, validation and test, on the CPU."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Put everything on the device, once."""
        if self.train is None:
            device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
            self.train, self.validation, self.test = (
                tuple(tensor.to(device) for tensor in split) for split in self.splits()
            )

    def _epoch(self) -> int:
        return epoch_of(self.trainer) if self.trainer is not None else 0

    def train_dataloader(self) -> TensorLoader:
        """Training batches, in the order of the epoch that is about to run."""
        assert self.train is not None
        return TensorLoader(self.train, self.batch_size, shuffle=self.seed, epoch=self._epoch)

    def val_dataloader(self) -> TensorLoader:
        """Validation batches in fixed order."""
        return TensorLoader(self.validation, self.eval_batch_size)

    def test_dataloader(self) -> TensorLoader:
        """Test batches in fixed order."""
        return TensorLoader(self.test, self.eval_batch_size)
