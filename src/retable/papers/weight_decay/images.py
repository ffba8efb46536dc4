"""Preprocessing of the images: pooled for the reduced protocol, then normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor


@dataclass(frozen=True)
class Normalise:
    """Average pooling, then channels less their mean by their deviation; for ``data.preprocess``.

    Attributes:
        mean: of the channels, of pixels in [0, 1].
        std: of the channels.
        pool: side of the squares that become one pixel.
    """

    mean: Sequence[float]
    std: Sequence[float]
    pool: Annotated[int, Field(ge=1)] = 1

    def __call__(self, pool: Tensor, _train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        """Training and validation images, and test images, ``(N, C, H, W)``."""
        return self._one(pool), self._one(test)

    def _one(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(list(v))[:, None, None] for v in (self.mean, self.std))
        return (F.avg_pool2d(images, self.pool) - mean) / std


def per_class(labels: Tensor, n: int) -> Tensor:
    """Indices of the first ``n`` items of each class, ``(n_classes n,)`` in ascending order."""
    found = [(labels == label).nonzero()[:n, 0] for label in labels.unique()]
    return torch.cat(found).sort().values
