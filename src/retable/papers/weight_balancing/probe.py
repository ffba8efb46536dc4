"""Random layers behind the features: whether they tell the classes better apart."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def probed(features: Tensor, seed: int, depth: int = 3) -> Iterator[Tensor]:
    """Features ``(N, d)`` after one, two, ... random layers: linear, batch norm, ReLU.

    Weights are normal with variance 2 / d, drawn on the CPU from the seed; the norm divides by the
    deviation over all N and has neither weight nor bias.
    """
    generator = torch.Generator().manual_seed(seed)
    x, d = features.double(), features.shape[1]
    for _ in range(depth):
        weight = torch.randn(d, d, generator=generator, dtype=torch.float64) * math.sqrt(2 / d)
        x = x @ weight.to(x.device)
        x = ((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()).relu()
        yield x
