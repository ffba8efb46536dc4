"""The printed ratio of two means, and which factors the runs do not rule out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from retable.tables.results import Ratio
from retable.tables.verdicts.distributions import combined, t_quantile


def fieller(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95) -> Ratio | None:
    """Mean of ``a`` over mean of ``b``, with every f for which A - f B = 0 is not rejected.

    Fieller 1954. The test is paired where the seeds are the same. Both bounds are None where that
    set is no interval, because the denominator may be 0, or where there are too few runs.

    Args:
        a: values of the numerator, by seed.
        b: of the denominator.
        level: of the interval.

    Returns:
        None where the denominator is 0 or either has no values.
    """
    seeds = sorted(a) if a.keys() == b.keys() else None
    x = np.array([a[s] for s in seeds or a], dtype=np.float64)
    y = np.array([b[s] for s in seeds or b], dtype=np.float64)
    if not x.size or not y.size or y.mean() == 0:
        return None
    ratio = float(x.mean() / y.mean())
    if min(x.size, y.size) < 2:
        return Ratio(ratio, None, None)
    # Each in units of its own size: what follows squares them.
    size_x, size_y = float(np.abs(x).max()) or 1.0, float(np.abs(y).max())
    ends = (_paired if seeds else _unpaired)(x / size_x, y / size_y, level)
    if ends is None:
        return Ratio(ratio, None, None)
    low, high = (end * (size_x / size_y) for end in ends)
    return Ratio(ratio, min(low, ratio), max(high, ratio))


def _paired(x: np.ndarray, y: np.ndarray, level: float) -> tuple[float, float] | None:
    """Where (x - f y)^2 = t^2 var(x - f y) / n: the roots of a square in f."""
    t = t_quantile((1 + level) / 2, len(x) - 1)
    (xx, xy), (_, yy) = (np.cov(x, y, ddof=1) * (t * t / len(x))).tolist()
    m, k = float(x.mean()), float(y.mean())
    square = k * k - yy
    if square <= 0:
        return None
    half = m * k - xy
    root = math.sqrt(max(half * half - square * (m * m - xx), 0.0))
    return (half - root) / square, (half + root) / square


def _unpaired(x: np.ndarray, y: np.ndarray, level: float) -> tuple[float, float] | None:
    """The same where the degrees of freedom depend on f; f is the tangent of an angle."""
    from scipy.optimize import brentq  # only where seeds differ

    errors = [float(v.std(ddof=1)) / math.sqrt(len(v)) for v in (x, y)]
    dfs = [len(x) - 1, len(y) - 1]
    m, k = float(x.mean()), float(y.mean())
    q = (1 + level) / 2
    if abs(k) <= t_quantile(q, dfs[1]) * errors[1]:
        return None
    if not any(errors):
        return m / k, m / k

    def beyond(angle: float) -> float:
        u, v = math.cos(angle), math.sin(angle)
        se, df = combined([u * errors[0], abs(v) * errors[1]], dfs)
        return abs(u * m - v * k) - t_quantile(q, df) * se

    centre = math.atan(m / k)
    low: Any = brentq(beyond, -math.pi / 2, centre, xtol=1e-14)
    high: Any = brentq(beyond, centre, math.pi / 2, xtol=1e-14)
    return math.tan(low), math.tan(high)
