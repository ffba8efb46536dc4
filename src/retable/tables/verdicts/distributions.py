"""Student's t, central and not, and how variances combine: what all the tests share.

Taken from ``scipy.special``, whose functions are those that ``scipy.stats`` calls: importing the
latter alone would take longer than printing a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

ROUNDING = 1e-12
"""Relative difference that floating-point arithmetic may cause where two numbers are equal."""

_FAR = 1e4
"""Noncentrality beyond which the normal part of a noncentral t is nothing beside its mean."""


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t, as ``scipy.stats.t.ppf``."""
    return float(special.stdtrit(df, probability))


def t_tail(x: float, df: float) -> float:
    """Probability above ``x`` under Student's t, as ``scipy.stats.t.sf``."""
    return float(special.stdtr(df, -x))


def t_tail_noncentral(x: Any, df: Any, nc: Any) -> Any:
    """Probability above ``x`` under a noncentral t, as ``scipy.stats.nct.sf``; for arrays.

    The mirrored lower tail: one less the lower tail would lose small probabilities, and is NaN far
    out. For a noncentrality beyond what the series can do, Z + nc > x sqrt(V/df) is taken without
    Z, where Z is normal and V chi-squared.
    """
    x, df, nc = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (x, df, nc)))
    near = special.nctdtr(df, -np.minimum(nc, _FAR), -x)
    with np.errstate(divide="ignore", over="ignore"):
        far = np.where(x > 0, special.chdtr(df, df * (nc / np.where(x > 0, x, 1.0)) ** 2), 1.0)
    return np.where(nc > _FAR, far, np.nan_to_num(near, nan=0.0))


def between(low: Any, high: Any) -> Any:
    """Probability of a standard normal between two bounds, 0 where they are crossed."""
    return np.maximum(special.ndtr(high) - special.ndtr(low), 0.0)


def combined(errors: Sequence[float], dfs: Sequence[float]) -> tuple[float, float]:
    """Standard error of a sum of independent estimates and its degrees of freedom.

    Satterthwaite 1946: df = (sum v)^2 / sum(v^2 / df) for variances v; of two, it is Welch's.

    Args:
        errors: standard errors of the parts.
        dfs: degrees of freedom behind each.
    """
    se = math.hypot(*errors)
    if se == 0 or math.isinf(se):
        return se, min(dfs)
    # Shares of the variance: squares of very small or large errors would not be numbers.
    return se, 1 / sum((error / se) ** 4 / df for error, df in zip(errors, dfs, strict=True))


def binomial_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval, as ``scipy.stats.binomtest(k, n).proportion_ci("exact")``."""
    tail = (1 - level) / 2
    low = float(special.betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high
