"""Learning rate by iteration: linear warm-up, then half a cosine, then constant."""

from __future__ import annotations

import math


def rate(t: int, *, lr: float, min_lr: float, warmup: int, horizon: int) -> float:
    """Rate of iteration t, from 0 on, as nanoGPT's ``get_lr``.

    It is 0 at 0, ``lr`` at ``warmup`` and ``min_lr`` from ``horizon`` on; constant with
    ``min_lr = lr``.
    """
    if t < warmup:
        return lr * t / warmup
    if t >= horizon:
        return min_lr
    done = (t - warmup) / (horizon - warmup)
    return min_lr + 0.5 * (1 + math.cos(math.pi * done)) * (lr - min_lr)
