"""Random changes of training images, a batch at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor


@dataclass(frozen=True)
class Flip:
    """Half of the images are mirrored; with two copies of each known beforehand."""

    def copies(self, images: Tensor) -> Tensor:
        """Images ``(N, ..., W)`` and their mirror images, ``(2, N, ..., W)``."""
        return torch.stack([images, images.flip(-1)])

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Which copy is taken of each of ``n`` images: 0 or 1, ``(n,)`` on the CPU."""
        return torch.randint(2, (n,), generator=generator)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Each image or its mirror image, as :meth:`draw` says."""
        mirrored = self.draw(len(images), generator).bool().to(images.device)
        return torch.where(mirrored.view(-1, *[1] * (images.dim() - 1)), images.flip(-1), images)


@dataclass(frozen=True)
class ResizedCropFlip:
    """A window of every image, scaled to one size, and half of them mirrored.

    The window's share of the area is uniform, the logarithm of width over height too; of ten tries
    the first window that fits is taken, else the middle of the image, as torchvision's
    RandomResizedCrop does. Unlike there, a window is read bilinearly from the image itself and does
    not end at whole pixels.

    Attributes:
        size: height and width of what comes out.
        least: smallest share of the image's area.
        most: largest share.
        ratio: width over height is between its inverse and this.
    """

    size: Annotated[int, Field(ge=1)] = 224
    least: Annotated[float, Field(gt=0, le=1)] = 0.08
    most: Annotated[float, Field(gt=0, le=1)] = 1.0
    ratio: Annotated[float, Field(ge=1)] = 4 / 3

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(f"augment.least: {self.least} is more than most={self.most}")

    def windows(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Left, top, width and height of ``n`` windows in pixels, ``(n, 4)``."""
        area, slant, x, y = torch.rand(4, n, 10, generator=generator)
        area = (self.least + (self.most - self.least) * area) * (height * width)
        ratio = torch.exp((2 * slant - 1) * math.log(self.ratio))
        w, h = (area * ratio).sqrt(), (area / ratio).sqrt()
        fits = (w <= width) & (h <= height)
        # ``max`` gives the first of equal ones
        first = fits.to(torch.uint8).max(1).indices[:, None]
        w, h, x, y = (values.gather(1, first)[:, 0] for values in (w, h, x, y))
        left, top = x * (width - w), y * (height - h)
        tall, wide = min(height, width * self.ratio), min(width, height * self.ratio)
        middle = torch.tensor([(width - wide) / 2, (height - tall) / 2, wide, tall])
        found = torch.stack([left, top, w, h], 1)
        return torch.where(fits.any(1)[:, None], found, middle)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Windows of images ``(N, C, H, W)``, ``(N, C, size, size)``; drawn on the CPU."""
        n, channels, height, width = images.shape
        left, top, w, h = self.windows(n, height, width, generator).T
        sign = 1 - 2.0 * torch.randint(2, (n,), generator=generator)
        # From places in the output to places in the image, both in [-1, 1] from edge to edge.
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 0, 2] = sign * w / width, (2 * left + w) / width - 1
        theta[:, 1, 1], theta[:, 1, 2] = h / height, (2 * top + h) / height - 1
        grid = F.affine_grid(
            theta.to(images.device), [n, channels, self.size, self.size], align_corners=False
        )
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
