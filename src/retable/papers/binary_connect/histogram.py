"""Where the stored weights of a layer lie between the clipping bounds."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 100
COARSE = 11
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


def named(weights: Tensor) -> dict[str, float]:
    """Shares of weights over H, any shape, in intervals that a table has rows for.

    ``at_bounds`` (``|w| >= 0.95``), ``near_zero`` (``|w| <= 0.05``), ``elsewhere``, and ``bin_01``
    to ``bin_11``: intervals of width 0.2 over [-1.1, 1.1].
    """
    size = weights.abs()
    shares = {
        "at_bounds": size >= AT_BOUND,
        "near_zero": size <= NEAR_ZERO,
        "elsewhere": (size > NEAR_ZERO) & (size < AT_BOUND),
    }
    out = {name: float(chosen.double().mean()) for name, chosen in shares.items()}
    counts = torch.histc(weights.float().cpu(), COARSE, -RANGE, RANGE).double() / weights.numel()
    return out | {f"bin_{i:02}": share for i, share in enumerate(counts.tolist(), start=1)}
