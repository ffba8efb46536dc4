"""DataModule of VTAB-1k: a thousand training images and the whole test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from retable.data.arrays import checksum as checksum_of
from retable.data.base import DataPaths
from retable.data.image_cache import load
from retable.data.modules import ImageData
from retable.data.own_data import agree, in_mirror
from retable.data.transforms import to_float
from retable.papers.subtuning.data import Normalise
from retable.papers.subtuning.vtab_files import FILES, N_TRAIN, Item, decoded, thousand

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""What the authors' code normalises CIFAR-10 with."""


class DecodedBatches:
    """Batches of images that are decoded as they are asked for, and normalised.

    The whole test set would not fit into memory as floats; a search does not look at it at all.
    """

    def __init__(
        self,
        items: Sequence[Item],
        size: int,
        batch_size: int,
        normalise: Normalise,
        device: torch.device,
    ) -> None:
        self.items, self.size, self.batch_size = items, size, batch_size
        self.normalise, self.device = normalise, device

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.items) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.items), self.batch_size):
            part = decoded(self.items[start : start + self.batch_size], self.size)
            images, labels = (tensor.to(self.device) for tensor in part)
            yield self.normalise.one(to_float(images)), labels


class Vtab(ImageData):
    """VTAB-1k as the authors have it, normalised by the 800 training images.

    CIFAR-100 is taken in the canonical order of its images, by the hash of their content, because
    TensorFlow Datasets' order cannot be had from other copies: its 800 and 200 are other members of
    the same training set than the benchmark's. The same holds of the other sets
    (:mod:`.vtab_files`), which have to lie in a folder of the mirror.

    ``train`` and ``validation`` are float32 and normalised; test images are decoded batch by batch.

    Args:
        seed: the run's seed; order follows from it.
        paths: mirror and cache, given by the harness.
        dataset: which.
        checksum: of CIFAR-100's decoded arrays, or of the other sets' thousand and test images at
            ``size``; null where it is not known yet: then preparing says what it is.
        folder: of the data below the mirror; null for the data set's name. Not for CIFAR-100.
        batch_size: training images of a batch; a last one that is not full is kept.
        n_validation: 200 for selection; 0 to train on all thousand.
        size: height and width of the images.
        cifar_constants: normalise CIFAR-100 with CIFAR-10's mean and deviation, as the authors'
            code does by a slip.
        augment: as for :class:`ImageData`.
        eval_batch_size: images of a batch of validation and test.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        dataset: Literal["cifar100", "flowers102", "caltech101", "dmlab"],
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        folder: str | None = None,
        batch_size: Annotated[int, Field(ge=1)],
        n_validation: Literal[0, 200] = 200,
        size: Annotated[int, Field(ge=1)] = 224,
        cifar_constants: bool = False,
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 250,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset="cifar100",
            checksum=checksum,
            batch_size=batch_size,
            n_validation=n_validation,
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=False,
        )
        if cifar_constants and dataset != "cifar100":
            raise ValueError(f"data.cifar_constants: is of cifar100, not of {dataset}")
        if folder is not None and dataset == "cifar100":
            raise ValueError("data.folder: cifar100 is found by its name; leave it out")
        self.dataset: str = dataset
        self.folder = folder or dataset
        self.size, self.cifar_constants = size, cifar_constants

    def items(self) -> tuple[list[Item], list[Item]]:
        """The thousand, 800 first, and the test images."""
        return self._cifar100() if self.dataset == "cifar100" else self._of_folder()

    def prepare_data(self) -> None:
        """Look whether the data is there and is that of the checksum."""
        if self.dataset == "cifar100":
            load("cifar100", self.checksum, self.paths)
            return
        found: dict[str, Tensor] = {}
        for split, items in zip(("train", "test"), self._of_folder(), strict=True):
            found[f"{split}/images"], found[f"{split}/labels"] = decoded(items, self.size)
        own = checksum_of({name: tensor.numpy() for name, tensor in found.items()})
        where = (self.paths.mirror or self.paths.cache) / self.folder
        agree("data.checksum", where, own, self.checksum)

    def _cifar100(self) -> tuple[list[Item], list[Item]]:
        whole = load("cifar100", self.checksum, self.paths)

        def items(split: str) -> list[Item]:
            images, labels = whole[f"{split}/images"].numpy(), whole[f"{split}/labels"].tolist()
            return list(zip(images, labels, strict=True))

        train = items("train")
        return [train[i] for i in thousand(len(train))], items("test")

    def _of_folder(self) -> tuple[list[Item], list[Item]]:
        files = FILES[self.dataset]
        root = in_mirror("data.folder", self.folder, self.paths, files.structure)
        train, test = files.read(root)
        return ([train[i] for i in thousand(len(train))] if files.whole else train), test

    def setup(self, stage: str) -> None:
        """Read and normalise the thousand, and put them on the device, once."""
        if self.train is not None:
            return
        thousand_items, self.tested = self.items()
        uint8, labels = decoded(thousand_items, self.size)
        images = to_float(uint8)
        if self.cifar_constants:
            self.normalise = Normalise(CIFAR_MEAN, CIFAR_STD)
        else:
            first = images[:N_TRAIN].double()
            mean, std = first.mean((0, 2, 3)), first.std((0, 2, 3))
            self.normalise = Normalise(mean.tolist(), std.tolist())
        images = self.normalise.one(images)
        n = len(images) - self.n_validation
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self.train = images[:n].to(device), labels[:n].to(device)
        self.validation = images[n:].to(device), labels[n:].to(device)
        self.device = device

    def test_dataloader(self) -> Any:
        """Test batches in fixed order, normalised."""
        return DecodedBatches(
            self.tested, self.size, self.eval_batch_size, self.normalise, self.device
        )
