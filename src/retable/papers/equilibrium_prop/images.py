"""Preprocessing and augmentation of colour images, as in the authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from retable.data.transforms import pad_crop_flip


@dataclass(frozen=True)
class Normalise:
    """Channels less their mean by 1.5 deviations; for ``data.preprocess``.

    Attributes:
        mean: of the channels of images in [0, 1].
        std: of the channels.
        pool: side of the squares that become one pixel, for small networks.
    """

    mean: Sequence[float]
    std: Sequence[float]
    pool: Annotated[int, Field(ge=1)] = 1

    def __call__(self, pool: Tensor, _train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        """Training and validation images, and test images, ``(N, C, H, W)``."""
        return self.one(pool), self.one(test)

    def one(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` in [0, 1]."""
        mean, std = (images.new_tensor(list(v))[:, None, None] for v in (self.mean, self.std))
        return (F.avg_pool2d(images, self.pool) - mean) / (1.5 * std)


@dataclass(frozen=True)
class CropFlip:
    """A window of the image with a margin of two black pixels, half of them mirrored.

    For ``data.augment``; black is what :class:`Normalise` makes of 0.

    Attributes:
        mean: of the channels.
        std: of the channels.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Normalised training images ``(N, C, H, W)``."""
        mean, std = (images.new_tensor(list(v))[:, None, None] for v in (self.mean, self.std))
        black = -mean / (1.5 * std)
        return pad_crop_flip(images - black, generator, pad=2) + black
