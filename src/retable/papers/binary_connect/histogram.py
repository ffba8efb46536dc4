"""Where the stored weights of a layer lie between the clipping bounds."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 100
RANGE = 1.1
AT_BOUND = 0.95
NEAR_ZERO = 0.05


def shares(weights: Tensor) -> Tensor:
    """Share of weights in each of 100 bins of equal width over [-1.1, 1.1].

    Args:
        weights: stored weights over H, any shape.

    Returns:
        ``(100,)`` float64, sums to 1.
    """
    counts = torch.histc(weights.float().cpu(), BINS, -RANGE, RANGE).double()
    return counts / weights.numel()


def masses(weights: Tensor) -> dict[str, float]:
    """Shares near the bounds (``|w| >= 0.95 H``), near zero (``|w| <= 0.05 H``), and elsewhere."""
    size = weights.abs()
    at_bounds = float((size >= AT_BOUND).double().mean())
    near_zero = float((size <= NEAR_ZERO).double().mean())
    return {
        "at_bounds": at_bounds,
        "near_zero": near_zero,
        "elsewhere": float(((size > NEAR_ZERO) & (size < AT_BOUND)).double().mean()),
    }
