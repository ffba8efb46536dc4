"""Portfolios that need no iteration: the naive ones, and the cases with an exact solution."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def inverse_vol(cov: ArrayLike, budgets: ArrayLike | None = None) -> FloatArray:
    """Naive portfolio ``w_i ~ sqrt(b_i) / sigma_i``, which ignores the correlations.

    It is the risk parity portfolio if the assets are uncorrelated; with equal budgets also if all
    pairs have one common correlation, hence for any two assets.

    Args:
        cov: ``(N, N)``, covariance; only its diagonal is read.
        budgets: ``(N,)``, risk budgets, or ``None`` for equal ones.

    Returns:
        ``(N,)``, weights that sum to 1.

    Raises:
        ValueError: If ``cov`` is not square, a variance or a budget is not positive, or the
            lengths differ.
    """
    matrix = np.asarray(cov, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"cov must be square, (N, N); got shape {matrix.shape}")
    variances = matrix.diagonal()
    if not np.all(variances > 0):
        index = int(np.argmin(variances > 0))
        raise ValueError(f"cov[{index}, {index}] = {variances[index]} is not a positive variance")
    scores = 1.0 / np.sqrt(variances)
    if budgets is not None:
        shares = np.asarray(budgets, dtype=np.float64)
        if shares.shape != scores.shape or not np.all(shares > 0):
            raise ValueError(f"budgets must be {len(scores)} positive numbers; got {shares}")
        scores *= np.sqrt(shares)
    return scores / scores.sum()


def two_assets(b: float, rho: float, sigma_1: float, sigma_2: float) -> tuple[float, float]:
    """Exact long-only weights of two assets with budgets ``(b, 1 - b)``.

    With ``h = b - 1/2``, ``w_1`` is
    ``(h rho s1 s2 - b s2^2 + s1 s2 sqrt(h^2 rho^2 + b (1 - b)))
    / ((1 - b) s1^2 - b s2^2 + 2 h rho s1 s2)``.
    Both sides of that fraction vanish on a curve of parameters (equal volatilities and equal
    budgets lie on it), so it is evaluated here from the ratio ``t = s1 w_1 / (s2 w_2)``, the
    positive root of ``(1 - b) t^2 - 2 h rho t - b = 0``, which never cancels to 0 / 0.

    Args:
        b: Budget of the first asset, in (0, 1).
        rho: Correlation, in (-1, 1).
        sigma_1: Volatility of the first asset.
        sigma_2: Volatility of the second asset.

    Returns:
        ``(w_1, w_2)``, positive, summing to 1.

    Raises:
        ValueError: If an argument is out of its range.
    """
    if not (0.0 < b < 1.0 and -1.0 < rho < 1.0 and sigma_1 > 0.0 and sigma_2 > 0.0):
        raise ValueError(f"out of range: b={b}, rho={rho}, sigma=({sigma_1}, {sigma_2})")
    h = (b - 0.5) * rho
    t = (h + math.sqrt(h * h + b * (1.0 - b))) / (1.0 - b)
    w_1, w_2 = t / sigma_1, 1.0 / sigma_2
    return w_1 / (w_1 + w_2), w_2 / (w_1 + w_2)
