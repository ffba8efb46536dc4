"""DataModules whose order is a function of (seed, epoch), which makes resuming exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from retable.training.epochs import epoch_of
from retable.training.seeds import derive_seed
from retable.training.start import Start


@dataclass(frozen=True)
class DataPaths:
    """Where data comes from and where it is kept once decoded."""

    cache: Path
    mirror: Path | None = None


class EpochSampler(Sampler[Any]):
    """Shuffled indices of one epoch, a function of (seed, epoch) alone.

    Args:
        size: number of items.
        seed: the run's seed.
        with_epoch: yield ``(epoch, index)`` pairs, for data sets whose items are random: an item
            that draws from ``item_generator(seed, epoch, index)`` is the same in every worker.
    """

    def __init__(self, size: int, seed: int, *, with_epoch: bool = False) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0
        self.with_epoch = with_epoch
        self.generator = torch.Generator()
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one."""
        self.epoch = epoch
        # The loader draws its workers' base seed from this generator when it is iterated.
        self.generator.manual_seed(derive_seed(self.seed, "loader", epoch))

    def __iter__(self) -> Iterator[Any]:
        order = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        epoch = self.epoch
        for index in torch.randperm(self.size, generator=order).tolist():
            yield (epoch, index) if self.with_epoch else index

    def __len__(self) -> int:
        return self.size


def item_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """Generator for the randomness of one item in one epoch."""
    return torch.Generator().manual_seed(derive_seed(seed, "item", epoch, index))


class PaperDataModule(LightningDataModule):
    """Base of every DataModule.

    Args:
        seed: the run's seed, given by the harness.
        paths: where data comes from and is kept, given by the harness.
        num_workers: processes that load data.
        persistent_workers: keep them from epoch to epoch.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        num_workers: int = 0,
        persistent_workers: bool = False,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.paths = paths
        self.num_workers = num_workers
        self.persistent_workers = persistent_workers

    def take_start(self, start: Start) -> None:
        """Take what another run has left, such as a choice of items; called before ``setup``.

        Also where the run goes on from a checkpoint of its own. As it stands here nothing is taken.
        """

    def shuffled(
        self, dataset: Dataset[Any], batch_size: int, *, with_epoch: bool = False, **kwargs: Any
    ) -> DataLoader[Any]:
        """Training loader in the order of :class:`EpochSampler`, at the epoch the trainer is in.

        With workers Lightning makes the first iterator before it calls ``set_epoch``; without the
        line that sets it here a resumed run would repeat the order of epoch 0.
        """
        sampler = EpochSampler(len(dataset), self.seed, with_epoch=with_epoch)  # type: ignore[arg-type]
        if self.trainer is not None:
            sampler.set_epoch(epoch_of(self.trainer))
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            generator=sampler.generator,
            num_workers=self.num_workers,
            persistent_workers=self.persistent_workers and self.num_workers > 0,
            **kwargs,
        )

    def in_order(self, dataset: Dataset[Any], batch_size: int, **kwargs: Any) -> DataLoader[Any]:
        """Loader for validation and test: fixed order, a generator of its own."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "evaluation"))
        return DataLoader(
            dataset, batch_size=batch_size, shuffle=False, generator=generator, **kwargs
        )


class OneItem(Dataset[Tensor]):
    """Data set of a single tensor, for methods that solve one problem per run."""

    def __init__(self, item: Tensor) -> None:
        self.item = item

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        if index != 0:
            raise IndexError(index)
        return self.item
