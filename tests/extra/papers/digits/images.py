"""What a paper may give a data module of images instead of a name: each in a class of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class Pooled:
    """Averages squares of pixels, then subtracts and divides by constants."""

    def __init__(self, size: int, mean: float = 0.0, std: float = 1.0) -> None:
        self.size, self.mean, self.std = size, mean, std

    def __call__(self, images: Tensor, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        def one(images: Tensor) -> Tensor:
            return (F.avg_pool2d(images, self.size) - self.mean) / self.std

        return one(images), one(test)


class Noise:
    """Adds noise to a batch."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images + self.scale * torch.randn(images.shape, generator=generator)


class EveryOther:
    """Validation images are every other one, as many as are asked for."""

    def __call__(self, labels: Tensor, n_validation: int, seed: int) -> tuple[Tensor, Tensor]:
        chosen = torch.zeros(len(labels), dtype=torch.bool)
        chosen[: 2 * n_validation : 2] = True
        return torch.nonzero(~chosen).flatten(), torch.nonzero(chosen).flatten()
