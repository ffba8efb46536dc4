"""DataModules of what is fine-tuned on: corrupted CIFAR-10 and the coarse classes of CIFAR-100."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import PIL
import scipy
import torch
from pydantic import Field
from torch import Tensor

from retable.data.arrays import Arrays, checksum
from retable.data.base import DataPaths
from retable.data.fetch import locked
from retable.data.image_cache import every, load, read_tensors, writable, write_tensors
from retable.data.modules import GeneratedImages, ImageData
from retable.papers.subtuning import corruptions, frost, water
from retable.papers.subtuning.coarse import coarse
from retable.papers.subtuning.splits import First, drawn, first_of_each
from retable.util.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from retable.papers.subtuning.corruptions import Name

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalise:
    """Channels less their mean, by their deviation; for ``preprocess``.

    Attributes:
        mean: of each channel, of pixels in [0, 1].
        std: of each channel.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3:
                raise UserError(f"data.{key}: {len(values)} numbers for the 3 channels")
        if min(self.std) <= 0:
            raise UserError(f"data.std: {min(self.std)} has to be more than 0")

    def __call__(self, pool: Tensor, _train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        """Training and validation images, and test images, ``(N, 3, H, W)``."""
        return self.one(pool), self.one(test)

    def one(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)``."""
        mean, std = (
            torch.tensor(list(v), device=images.device)[:, None, None]
            for v in (self.mean, self.std)
        )
        return (images - mean) / std


def chosen(images: Tensor, labels: Tensor, *parts: Tensor) -> dict[str, Tensor]:
    """What a DataModule's ``arrays`` gives: training, then validation images, and test images."""
    train, validation, test = parts
    pool = torch.cat([train, validation])
    return {
        "train/images": images[pool],
        "train/labels": labels[pool],
        "test/images": images[test],
        "test/labels": labels[test],
    }


def corrupted_file(sha256: str, name: str, severity: int, cache: Path) -> Path:
    """Where a corrupted test set is kept: by the clean one and by the code that corrupts it."""
    digest = hashlib.sha256(sha256.encode())
    for module in (corruptions, frost, water):
        digest.update(inspect.getsource(module).encode())
    digest.update(f"{np.__version__} {scipy.__version__} {PIL.__version__}".encode())
    found = digest.hexdigest()[:16]
    return cache / "corrupted" / f"cifar10-{name}-{severity}-{found}.safetensors"


def corrupted(
    sha256: str | None, name: str, severity: int, paths: DataPaths
) -> tuple[Tensor, Tensor]:
    """CIFAR-10's 10,000 test images, corrupted, from the cache, which is filled where needed.

    Args:
        sha256: checksum of the clean set's decoded arrays.
        name: a corruption, or ``none``.
        severity: 1 to 5.
        paths: mirror and cache.

    Returns:
        Images ``(10000, 32, 32, 3)`` uint8 and labels ``(10000,)`` int64, in the set's order.

    Raises:
        UserError: where the clean set is not that of the checksum, or the cache's file is altered.
    """
    file = corrupted_file(sha256 or "", name, severity, paths.cache)
    if name == "none" or not file.is_file():
        clean = load("cifar10", sha256, paths)
        images, labels = clean["test/images"], clean["test/labels"]
        if name == "none":
            return images, labels
        with writable(file), locked(file):
            if not file.is_file():
                every(0.0)(f"cifar10: corrupting the test images ({name}, {severity}), once")
                made = corruptions.corrupt(images.numpy(), name, severity)
                arrays: Arrays = {"images": made, "labels": labels.numpy()}
                own = np.frombuffer(bytes.fromhex(checksum(arrays)), np.uint8)
                write_tensors(file, {**arrays, "checksum": own})
    read = read_tensors(file) or {}
    own = read.pop("checksum", np.empty(0, np.uint8))
    if checksum(read) != own.tobytes().hex():
        raise UserError(f"{file}: is truncated or altered; delete it, it is made again")
    return torch.from_numpy(read["images"]), torch.from_numpy(read["labels"])


class CorruptedImages(ImageData):
    """Test images of CIFAR-10, corrupted, in three parts of their own.

    The training images of CIFAR-10 are not used: a pretrained network has seen them. Images are
    drawn by the run's seed (:func:`.splits.drawn`), the corruption's randomness is the same for all
    runs.

    Args:
        seed: the run's seed; split and order follow from it.
        paths: mirror and cache, given by the harness.
        checksum: of CIFAR-10's decoded arrays.
        corruption: which; ``none`` for clean images.
        severity: 1 to 5.
        n_train: images in all, as many of every class, like the next two.
        n_validation: images in all.
        n_test: images in all; null for all that are left.
        batch_size: training images of a batch.
        mean: of the channels, of pixels in [0, 1].
        std: of the channels.
        augment: as for :class:`ImageData`.
        eval_batch_size: images of a batch of validation and test.
        drop_last: leave out a last training batch that is not full.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        corruption: Name | Literal["none"],
        severity: Annotated[int, Field(ge=1, le=5)] = 5,
        n_train: Annotated[int, Field(ge=1)],
        n_validation: Annotated[int, Field(ge=0)] = 0,
        n_test: Annotated[int, Field(ge=1)] | None = None,
        batch_size: Annotated[int, Field(ge=1)],
        mean: list[float] | tuple[float, ...] = _MEAN,
        std: list[float] | tuple[float, ...] = _STD,
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset="cifar10",
            checksum=checksum,
            batch_size=batch_size,
            n_validation=n_validation,
            split=First(n_train),
            n_train=n_train,
            preprocess=Normalise(mean, std),
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=drop_last,
        )
        self.corruption, self.severity, self.n_test = corruption, severity, n_test

    def arrays(self) -> dict[str, Tensor]:
        """Corrupted images by split, uint8, and their labels."""
        images, labels = corrupted(self.checksum, self.corruption, self.severity, self.paths)
        assert self.n_train is not None
        parts = drawn(labels, self.n_train, self.n_validation, self.n_test, self.seed)
        return chosen(images, labels, *parts)


class CoarseImages(ImageData):
    """CIFAR-100 with its 20 coarse classes.

    Training and validation images are drawn from the training images by the run's seed
    (:func:`.splits.drawn`); the test images are the same for all runs.

    Args:
        seed: the run's seed; split and order follow from it.
        paths: mirror and cache, given by the harness.
        checksum: of CIFAR-100's decoded arrays.
        n_train: images in all, as many of every coarse class, like the next two.
        n_validation: images in all.
        n_test: images in all, the first of every class; null for all 10,000.
        batch_size: training images of a batch.
        mean: of the channels, of pixels in [0, 1].
        std: of the channels.
        augment: as for :class:`ImageData`.
        eval_batch_size: images of a batch of validation and test.
        drop_last: leave out a last training batch that is not full.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        n_train: Annotated[int, Field(ge=1)],
        n_validation: Annotated[int, Field(ge=0)] = 0,
        n_test: Annotated[int, Field(ge=1)] | None = None,
        batch_size: Annotated[int, Field(ge=1)],
        mean: list[float] | tuple[float, ...] = _MEAN,
        std: list[float] | tuple[float, ...] = _STD,
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset="cifar100",
            checksum=checksum,
            batch_size=batch_size,
            n_validation=n_validation,
            split=First(n_train),
            n_train=n_train,
            preprocess=Normalise(mean, std),
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=drop_last,
        )
        self.n_test = n_test

    def arrays(self) -> dict[str, Tensor]:
        """Images by split, uint8, and their coarse labels."""
        whole = load("cifar100", self.checksum, self.paths)
        labels, of_test = coarse(whole["train/labels"]), coarse(whole["test/labels"])
        assert self.n_train is not None
        parts = drawn(labels, self.n_train, self.n_validation, None, self.seed)
        out = chosen(whole["train/images"], labels, parts[0], parts[1], parts[2][:0])
        test = first_of_each(of_test, "n_test", self.n_test)
        return out | {"test/images": whole["test/images"][test], "test/labels": of_test[test]}


class Generated(GeneratedImages):
    """Images of 32 x 32 that need no data, corrupted and split as :class:`CorruptedImages` are.

    Args:
        seed: the run's seed; split and order follow from it, the images do not.
        paths: not used.
        n_pool: images that are drawn from.
        corruption: as for :class:`CorruptedImages`, like all that follow.
        severity: as there.
        n_train: as there.
        n_validation: as there.
        n_test: as there.
        batch_size: as there.
        mean: as there.
        std: as there.
        augment: as there.
        eval_batch_size: as there.
        drop_last: as there.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        n_pool: Annotated[int, Field(ge=10)] = 600,
        corruption: Name | Literal["none"] = "none",
        severity: Annotated[int, Field(ge=1, le=5)] = 5,
        n_train: Annotated[int, Field(ge=1)] = 100,
        n_validation: Annotated[int, Field(ge=0)] = 0,
        n_test: Annotated[int, Field(ge=1)] | None = 200,
        batch_size: Annotated[int, Field(ge=1)] = 32,
        mean: list[float] | tuple[float, ...] = _MEAN,
        std: list[float] | tuple[float, ...] = _STD,
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            shape=(corruptions.SIZE, corruptions.SIZE, 3),
            n_pool=n_pool,
            batch_size=batch_size,
            n_validation=n_validation,
            split=First(n_train),
            n_train=n_train,
            preprocess=Normalise(mean, std),
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=drop_last,
        )
        self.corruption, self.severity, self.n_test = corruption, severity, n_test

    def arrays(self) -> dict[str, Tensor]:
        """Images of 10 classes by split, uint8, and their labels."""
        made = super().arrays()
        images, labels = made["train/images"], made["train/labels"]
        if self.corruption != "none":
            found = corruptions.corrupt(images.numpy(), self.corruption, self.severity)
            images = torch.from_numpy(found)
        assert self.n_train is not None
        parts = drawn(labels, self.n_train, self.n_validation, self.n_test, self.seed)
        return chosen(images, labels, *parts)
