"""Data of a method that makes its own: an epoch is a fixed number of updates."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch.utils.data import DataLoader, Dataset

from retable.data.base import DataPaths, PaperDataModule


class _Numbers(Dataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return index


class Updates(PaperDataModule):
    """Gives the numbers of an epoch's updates; the module draws trajectories itself.

    What it draws is a function of (seed, epoch), because the global generators are seeded anew
    from these at the start of each epoch.

    Args:
        seed: the run's seed.
        paths: where a module may look for files.
        updates: per epoch.
    """

    def __init__(
        self, *, seed: int, paths: DataPaths, updates: Annotated[int, Field(ge=1)] = 500
    ) -> None:
        super().__init__(seed=seed, paths=paths)
        self.updates = updates

    def train_dataloader(self) -> DataLoader[Any]:
        """Numbers of updates, one a batch."""
        return self.in_order(_Numbers(self.updates), 1)

    def val_dataloader(self) -> DataLoader[Any]:
        """One batch, whose content says nothing."""
        return self.in_order(_Numbers(1), 1)

    def test_dataloader(self) -> DataLoader[Any]:
        """One batch, whose content says nothing."""
        return self.in_order(_Numbers(1), 1)
