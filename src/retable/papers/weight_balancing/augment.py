"""Augmentation of normalised images as if it came before they were normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retable.data.transforms import pad_crop_flip


@dataclass(frozen=True)
class PadCropFlip:
    """A window of the image with a black margin of four pixels, half of them mirrored.

    To be given as ``data.augment``. Padding what is normalised with zeros would give a margin of
    the mean colour; the authors' code pads first.

    Attributes:
        mean: of the channels, as images were normalised with.
        std: of the channels.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Training images ``(N, C, H, W)``."""
        mean, std = (
            images.new_tensor(list(values))[:, None, None] for values in (self.mean, self.std)
        )
        black = -mean / std
        return pad_crop_flip(images - black, generator) + black
