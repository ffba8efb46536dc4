"""Per-image standardisation, and its augmentation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
