"""Cross-validation that drops candidates as soon as a test says that they are worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from retable.papers.r_learner.learners.base import Array

Indices = npt.NDArray[np.int64]
_MIN_VARIANCE = 1e-5
MAX_NLL = 100.0


def draw_folds(
    rng: np.random.Generator, n: int, n_folds: int, groups: Indices | None = None
) -> Indices:
    """Assign rows to folds at random, sizes differing by at most one row (or one group).

    Args:
        rng: source of the assignment.
        n: rows.
        n_folds: folds, at most one for each row (or group).
        groups: ``(n,)``; rows of a group stay together.

    Returns:
        ``(n,)``, fold numbers from 0.

    Raises:
        ValueError: if there are fewer than two rows or groups, or not one group for each row.
    """
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} rows")
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(unit.max()) + 1 if n else 0
    if n_units < 2 or n_folds < 2:
        raise ValueError(f"cross-validation with {n_folds} folds of {n_units} rows or groups")
    return rng.permutation(np.arange(n_units) % min(n_folds, n_units))[unit].astype(np.int64)


def squared_loss(prediction: Array, y: Array, weights: Array | None) -> Array:
    """Mean over rows of ``w (prediction - y)^2``; the weights are not normalised.

    Args:
        prediction: ``(..., n)``.
        y: ``(n,)``.
        weights: ``(n,)``, or ``None`` for 1 each.

    Returns:
        ``(...)``.
    """
    losses = (prediction - y) ** 2
    return np.asarray(np.mean(losses if weights is None else weights * losses, axis=-1))


def log_loss(prediction: Array, y: Array, weights: Array | None) -> Array:
    """Mean over rows of ``w min(100, -log p(y))``, for ``y`` 0 or 1; as :func:`squared_loss`."""
    with np.errstate(divide="ignore"):
        losses = np.minimum(MAX_NLL, -np.log(np.where(y == 1, prediction, 1.0 - prediction)))
    return np.asarray(np.mean(losses if weights is None else weights * losses, axis=-1))


def worse(best: Array, others: Array) -> Array:
    """One-sided p-values of unpaired Welch tests that ``others`` have larger means than ``best``.

    ``t = (mean_best - mean_j) / s`` with ``s^2 = v_best + v_j``, ``v = variance / k``, on
    ``s^4 / ((v_best^2 + v_j^2) / (k - 1))`` degrees of freedom.

    Args:
        best: ``(k,)``, losses by fold.
        others: ``(k, m)``.

    Returns:
        ``(m,)``; 1 where either variance is at most 1e-5, for which there is no test.
    """
    k = len(best)
    v_best = best.var(ddof=1)
    v_others = others.var(axis=0, ddof=1)
    tested = np.minimum(v_best, v_others) > _MIN_VARIANCE
    a, b = v_best / k, np.where(tested, v_others, 1.0) / k
    df = (a + b) ** 2 / ((a**2 + b**2) / (k - 1))
    p = stdtr(df, (best.mean() - others.mean(axis=0)) / np.sqrt(a + b))
    return np.where(tested, p, 1.0)


def race(
    losses_of: Callable[[int, Indices], Array],
    n_candidates: int,
    n_folds: int,
    burn_in: int = 5,
    alpha: float = 0.05,
) -> int:
    """The candidate with the smallest mean loss among those that survive.

    All candidates are evaluated on the first ``burn_in`` folds. After each fold from the
    ``burn_in``-th on, those that :func:`worse` finds worse than the best so far are dropped.

    Args:
        losses_of: gives the losses in a fold of some candidates, ``(m,)`` for their numbers
            ``(m,)``; is called once for each fold, with those that are left.
        n_candidates: number of candidates.
        n_folds: number of folds.
        burn_in: folds before the first test, at least 2.
        alpha: level of each test.

    Returns:
        Number of the winner, the first where several tie.
    """
    losses = np.full((n_folds, n_candidates), np.nan)
    alive = np.arange(n_candidates)
    best = 0
    for fold in range(n_folds):
        losses[fold, alive] = losses_of(fold, alive)
        seen = losses[: fold + 1, alive]
        best = int(alive[np.argmin(seen.mean(axis=0))])
        if fold + 1 >= burn_in:
            # The best stays, whatever the level.
            alive = alive[~(worse(losses[: fold + 1, best], seen) < alpha) | (alive == best)]
        if len(alive) == 1:
            break
    return best
