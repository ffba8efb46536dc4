"""The 1,797 handwritten digits that scikit-learn ships, 8 x 8 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from retable.data.base import DataPaths, PaperDataModule, item_generator
from retable.training.seeds import derive_seed


class NoisyDigits(Dataset[Any]):
    """Digits with noise that is a function of (seed, epoch, index)."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int, noise: float) -> None:
        self.images, self.labels, self.seed, self.noise = images, labels, seed, noise

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, several: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """A batch at once; the noise of an item is that of its index, in whatever batch it is."""
        epoch, chosen = several[0][0], torch.tensor([index for _, index in several])
        noise = _noise(self.seed, epoch, tuple(self.images.shape))[chosen]
        return list(zip(self.images[chosen] + self.noise * noise, self.labels[chosen], strict=True))


@lru_cache(maxsize=1)
def _noise(seed: int, epoch: int, shape: tuple[int, ...]) -> Tensor:
    """Noise of a whole epoch."""
    return torch.randn(shape, generator=item_generator(seed, epoch, 0))


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """Images and labels; scikit-learn reads them from a text each time."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


class Digits(PaperDataModule):
    """Train 1,200, validation 297, test 300 digits; the split depends on the seed."""

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        batch_size: int = 100,
        noise: float = 0.1,
        train_size: int = 1200,
        num_workers: int = 0,
        persistent_workers: bool = False,
        test_batch_size: int = 300,
    ) -> None:
        super().__init__(
            seed=seed, paths=paths, num_workers=num_workers, persistent_workers=persistent_workers
        )
        self.batch_size, self.noise, self.train_size = batch_size, noise, train_size
        self.test_batch_size = test_batch_size

    def setup(self, stage: str) -> None:
        x, y = _digits()
        split = torch.Generator().manual_seed(derive_seed(self.seed, "split"))
        order = torch.randperm(len(y), generator=split)
        train, val, test = order[: self.train_size], order[1200:1497], order[1497:]
        self.train = NoisyDigits(x[train], y[train], self.seed, self.noise)
        self.val, self.test = TensorDataset(x[val], y[val]), TensorDataset(x[test], y[test])

    def train_dataloader(self) -> DataLoader[Any]:
        return self.shuffled(self.train, self.batch_size, with_epoch=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.in_order(self.val, 300)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.in_order(self.test, self.test_batch_size)
