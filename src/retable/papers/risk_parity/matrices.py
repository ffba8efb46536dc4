"""Covariance matrices of the experiments, and the checks that any input of a solver must pass."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import (
    random_correlation as scipy_random_correlation,
)

from retable.papers.risk_parity.closed_forms import inverse_vol

__all__ = [
    "NOTEBOOK_MATRICES",
    "NOTEBOOK_SEED",
    "NOTEBOOK_SIZES",
    "bai2016",
    "check_budgets",
    "check_covariance",
    "check_signs",
    "check_stopping",
    "inverse_vol",
    "notebook_correlation",
    "random_correlation",
]

FloatArray = NDArray[np.float64]
_rvs = cast(
    "Callable[..., FloatArray]",
    scipy_random_correlation.rvs,
)
Test = Literal[1, 2]

NOTEBOOK_SIZES = (25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 400, 500, 600)
NOTEBOOK_MATRICES = 20
NOTEBOOK_SEED = 123456

SYMMETRY_TOL = 1e-12
"""Largest ``|Sigma_ij - Sigma_ji| / (sigma_i sigma_j)``: rounding errors, nothing more."""

BUDGET_SUM_TOL = 1e-6
"""Largest ``|sum b - 1|``: budgets stored as float32 pass."""


def bai2016() -> FloatArray:
    """Covariance of the five assets of Bai, Scheinberg and Tutuncu (2016), Section 6.1.

    Returns:
        ``(5, 5)``, squared returns (the printed numbers divided by 10000).
    """
    return (
        np.array(
            [
                [94.868, 33.750, 12.325, -1.178, 8.778],
                [33.750, 445.642, 98.955, -7.901, 84.954],
                [12.325, 98.955, 117.265, 0.503, 45.184],
                [-1.178, -7.901, 0.503, 5.460, 1.057],
                [8.778, 84.954, 45.184, 1.057, 34.126],
            ]
        )
        / 10000.0
    )


def random_correlation(
    n_assets: int, test: Test, rng: np.random.Generator | np.random.RandomState
) -> FloatArray:
    """Draw one correlation matrix of the paper's experiment on random matrices.

    The eigenvalues are independent U(0, 1), divided so that they sum to N; in Test 2 the last
    ``floor(N / 5)`` of them are zero. A random rotation and then Givens rotations to a unit
    diagonal (Davies and Higham 2000) make a correlation matrix with that spectrum. Its lower
    triangle goes through float32, as in the files of the authors' notebook, which moves the zero
    eigenvalues by about 1e-7.

    Args:
        n_assets: N, at least 2.
        test: 1 for a full spectrum, 2 for rank ``N - floor(N / 5)``.
        rng: Source of the uniform and then of the ``N * N`` normal numbers; it is advanced.

    Returns:
        ``(N, N)`` float64, exactly symmetric, with a unit diagonal.

    Raises:
        ValueError: If ``n_assets`` or ``test`` is out of range.
    """
    eigenvalues = np.zeros(n_assets)
    drawn = _n_eigenvalues(n_assets, test)
    eigenvalues[:drawn] = rng.uniform(size=drawn)
    eigenvalues *= n_assets / eigenvalues.sum()
    full = _rvs(eigenvalues, tol=1e-11, random_state=rng)
    lower = np.tril(full.astype(np.float32), -1).astype(np.float64)
    return lower + lower.T + np.eye(n_assets)


def notebook_correlation(
    n_assets: int,
    test: Test,
    index: int,
    sizes: tuple[int, ...] = NOTEBOOK_SIZES,
    n_matrices: int = NOTEBOOK_MATRICES,
    seed: int = NOTEBOOK_SEED,
) -> FloatArray:
    """Return one matrix of the authors' notebook, wherever it lies in the notebook's stream.

    The notebook seeds NumPy's global generator once and then draws ``n_matrices`` matrices for
    each N in turn, so a matrix depends on all those before it. They are skipped here by drawing
    their random numbers and leaving out the linear algebra.

    Args:
        n_assets: N, one of ``sizes``.
        test: 1 or 2; each test is a stream of its own with the same seed.
        index: Number of the matrix among those of this N, from 0.
        sizes: The values of N in the order of the notebook.
        n_matrices: Matrices per N.
        seed: Seed of the stream.

    Returns:
        ``(N, N)`` float64, as from :func:`random_correlation`.

    Raises:
        ValueError: If ``n_assets`` is not in ``sizes`` or ``index`` not in ``[0, n_matrices)``.
    """
    if n_assets not in sizes:
        raise ValueError(f"n_assets={n_assets} is not one of the sizes {sizes}")
    if not 0 <= index < n_matrices:
        raise ValueError(f"index={index} is not in [0, {n_matrices})")
    rng = np.random.RandomState(seed)
    rng.set_state(_state_before(sizes[: sizes.index(n_assets)], test, n_matrices, seed))
    _skip(rng, n_assets, test, index)
    return random_correlation(n_assets, test, rng)


@lru_cache(maxsize=64)
def _state_before(sizes: tuple[int, ...], test: Test, n_matrices: int, seed: int) -> dict[str, Any]:
    """State of the stream once the matrices of all ``sizes`` are drawn."""
    rng = np.random.RandomState(seed)
    if sizes:
        rng.set_state(_state_before(sizes[:-1], test, n_matrices, seed))
        _skip(rng, sizes[-1], test, n_matrices)
    return rng.get_state(legacy=False)


def _skip(rng: np.random.RandomState, n_assets: int, test: Test, count: int) -> None:
    # The same calls as SciPy's, since the legacy normals reject and keep one of each pair: the
    # number of words that they take from the generator is not known beforehand.
    drawn = _n_eigenvalues(n_assets, test)
    for _ in range(count):
        rng.uniform(size=drawn)
        rng.normal(size=(n_assets, n_assets))


def _n_eigenvalues(n_assets: int, test: Test) -> int:
    if n_assets < 2:
        raise ValueError(f"n_assets must be at least 2; got {n_assets}")
    if test == 1:
        return n_assets
    if test == 2:
        return n_assets - n_assets // 5
    raise ValueError(f"test must be 1 or 2; got {test}")


def check_covariance(cov: NDArray[Any], name: str = "cov") -> None:
    """Raise if no risk parity portfolio can be sought for a matrix.

    Semi-definiteness is not tested (that would cost more than the solution), except in the one
    direction along which all solvers start: the inverse-volatility portfolio must have a risk.

    Args:
        cov: Array that should be ``(N, N)``.
        name: What to call it in the message.

    Raises:
        ValueError: If it is not square, empty, not finite, not symmetric (beyond 1e-12 relative to
            ``sigma_i sigma_j``), has a variance that is not positive, or ``1' C 1 <= 0``.
    """
    if cov.ndim != 2 or cov.shape[0] != cov.shape[1] or cov.shape[0] == 0:
        raise ValueError(f"{name} must be square, (N, N) with N >= 1; got shape {cov.shape}")
    if not np.isfinite(cov).all():
        i, j = (int(k) for k in np.argwhere(~np.isfinite(cov))[0])
        raise ValueError(f"{name}[{i}, {j}] is {cov[i, j]}; all entries must be finite")
    variances = cov.diagonal()
    if not (variances > 0).all():
        i = int(np.argmin(variances > 0))
        raise ValueError(f"variance {name}[{i}, {i}] = {variances[i]} is not positive")
    sigma = np.sqrt(variances)
    if not np.array_equal(cov, cov.T):
        wrong = np.abs(cov - cov.T) > SYMMETRY_TOL * np.outer(sigma, sigma)
        if wrong.any():
            i, j = (int(k) for k in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name} is not symmetric: {name}[{i}, {j}] = {cov[i, j]} "
                f"but {name}[{j}, {i}] = {cov[j, i]}"
            )
    total = float((1.0 / sigma) @ cov @ (1.0 / sigma))
    if not total > 0:
        raise ValueError(
            f"{name} is not positive semi-definite along the inverse-volatility portfolio, or "
            f"that portfolio has no risk: the correlations sum to {total}"
        )


def check_budgets(
    budgets: ArrayLike | None, n_assets: int, name: str = "budgets", of: str = "cov"
) -> FloatArray:
    """Return risk budgets as float64 that sum to 1.

    Args:
        budgets: ``(N,)``, or ``None`` for ``1 / N`` each.
        n_assets: N.
        name: What to call them in a message.
        of: What to call the matrix they belong to.

    Returns:
        ``(N,)``; divided by their sum, if that differs from 1 by a rounding error.

    Raises:
        ValueError: If the length is wrong, a budget is not positive and finite, or the sum differs
            from 1 by more than 1e-6.
    """
    if budgets is None:
        return np.full(n_assets, 1.0 / n_assets)
    b = np.array(budgets, dtype=np.float64)
    if b.shape != (n_assets,):
        raise ValueError(f"{name} must have shape ({n_assets},) as {of}; got {b.shape}")
    if not (np.isfinite(b) & (b > 0)).all():
        i = int(np.argmin(np.isfinite(b) & (b > 0)))
        raise ValueError(f"{name}[{i}] = {b[i]} is not positive")
    total = float(b.sum())
    if abs(total - 1.0) > BUDGET_SUM_TOL:
        raise ValueError(f"{name} must sum to 1; got a sum of {total}")
    return b / total


def check_signs(signs: ArrayLike | None, n_assets: int, name: str = "signs") -> FloatArray:
    """Return long/short signs as float64.

    Args:
        signs: ``(N,)`` of +1 (long) and -1 (short), or ``None`` for all long.
        n_assets: N.
        name: What to call them in a message.

    Returns:
        ``(N,)`` of +1.0 and -1.0.

    Raises:
        ValueError: If the length is wrong or an entry is neither +1 nor -1; 0 is not "no
            constraint" but a coordinate that can meet no budget.
    """
    if signs is None:
        return np.ones(n_assets)
    s = np.array(signs, dtype=np.float64)
    if s.shape != (n_assets,):
        raise ValueError(f"{name} must have shape ({n_assets},) as cov; got {s.shape}")
    if not (np.abs(s) == 1.0).all():
        i = int(np.argmin(np.abs(s) == 1.0))
        raise ValueError(f"{name}[{i}] = {s[i]:g} is neither +1 (long) nor -1 (short)")
    return s


def check_stopping(tol: float, max_sweeps: int) -> None:
    """Raise ``ValueError`` unless ``tol`` is positive and finite and ``max_sweeps`` at least 1."""
    if not 0.0 < tol < np.inf:
        raise ValueError(f"tol must be positive and finite; got {tol}")
    if max_sweeps < 1:
        raise ValueError(f"max_sweeps must be at least 1; got {max_sweeps}")
