"""Per-image standardisation, its augmentation, and several passes over a set in one epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from retable.data.base import DataPaths
from retable.data.image_sets import ImageSetName
from retable.data.modules import ImageData
from retable.data.tensor_loader import TensorLoader
from retable.data.transforms import pad_crop_flip


def standardise(images: Tensor) -> Tensor:
    """``(x - mean) / max(std, 1 / √N)`` of every image ``(N numbers)`` by itself, as TensorFlow."""
    flat = images.flatten(1)
    std = flat.std(1, correction=0, keepdim=True).clamp(min=flat.shape[1] ** -0.5)
    return ((flat - flat.mean(1, keepdim=True)) / std).view_as(images)


@dataclass(frozen=True)
class Standardise:
    """Per-image standardisation, for ``data.preprocess``."""

    def __call__(self, pool: Tensor, _train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        """Training and validation images, and test images, ``(N, C, H, W)``."""
        return standardise(pool), standardise(test)


@dataclass(frozen=True)
class CropFlip:
    """A window of the image with a margin of four zeros, half of them mirrored, standardised anew.

    To be given as ``data.augment``, of images that are standardised.
    """

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Training images ``(N, C, H, W)``."""
        return standardise(pad_crop_flip(images, generator))


class Passes(TensorLoader):
    """Several shuffled passes as one epoch.

    Args:
        loader: of one pass.
        passes: how many.
    """

    def __init__(self, loader: TensorLoader, passes: int) -> None:
        self.loader, self.passes, first = loader, passes, loader.epoch
        self.number = 0
        loader.epoch = lambda: passes * first() + self.number

    def __len__(self) -> int:
        """Number of batches."""
        return self.passes * len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for number in range(self.passes):
            self.number = number  # the loader reads it when its iteration begins
            yield from self.loader


class RepeatedImages(ImageData):
    """An image set whose epoch is several passes over the training images.

    Args:
        seed: as for :class:`~retable.data.modules.ImageData`.
        paths: as there, like all that follow but the passes.
        dataset: as there.
        checksum: as there.
        batch_size: as there.
        n_validation: as there.
        preprocess: as there.
        augment: as there.
        eval_batch_size: as there.
        drop_last: as there.
        passes: of an epoch.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        dataset: ImageSetName,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        batch_size: Annotated[int, Field(ge=1)],
        n_validation: Annotated[int, Field(ge=0)] = 0,
        preprocess: Literal["none"] | Callable[..., Any] = "none",
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = False,
        passes: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset=dataset,
            checksum=checksum,
            batch_size=batch_size,
            n_validation=n_validation,
            preprocess=preprocess,
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=drop_last,
        )
        self.passes = passes

    def train_dataloader(self) -> TensorLoader:
        """Training batches of all passes."""
        return Passes(super().train_dataloader(), self.passes)
