r"""Weighted kernel ridge regression with a Gaussian kernel, in closed form.

``min_f sum_i w_i (y_i - c - f(x_i))^2 + lambda |f|^2`` over the kernel's space, with the intercept
``c = sum_i w_i y_i / sum_i w_i`` taken first. With ``S = diag(sqrt(w))`` the solution is
``f(x) = k(x)' S beta``, ``(S K S + lambda I) beta = S (y - c)``: the scaling keeps the matrix
symmetric, so one eigendecomposition of ``S K S`` serves every ridge, and weights may be zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import Array, Role, Task


@dataclass(frozen=True)
class Setting:
    """``bandwidth``: of the kernel, in units of ``sqrt(p)``; ``ridge``: lambda."""

    bandwidth: float
    ridge: float


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation (ddof 0) of each covariate, ``(p,)``."""

    mean: Array
    std: Array

    @classmethod
    def of(cls, x: Array) -> Scale:
        """Of the rows of ``x (n, p)``; a constant column is left as it is, but for its mean."""
        std = x.std(axis=0)
        return cls(x.mean(axis=0), np.where(std > 0, std, 1.0))

    def __call__(self, x: Array) -> Array:
        """``x (n, p)`` in units of these."""
        return (x - self.mean) / self.std


def squared_distances(left: Array, right: Array) -> Array:
    """``|l_i - r_j|^2``, ``(n, k)``, of the rows of ``left (n, p)`` and ``right (k, p)``."""
    norms = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)
    return np.maximum(norms - 2 * (left @ right.T), 0.0)


def gaussian(distances: Array, bandwidth: float, p: int) -> Array:
    """``exp(-d / (2 h^2))`` with ``h = bandwidth sqrt(p)``, of squared distances ``d``."""
    return np.exp(distances / (-2 * bandwidth**2 * p))


def solve(gram: Array, y: Array, weights: Array, ridges: Array) -> tuple[float, Array]:
    """Intercept and coefficients for every ridge.

    Args:
        gram: ``(n, n)`` kernel matrix.
        y: ``(n,)``.
        weights: ``(n,)``, not negative.
        ridges: ``(r,)``, positive.

    Returns:
        The intercept, and ``(n, r)`` coefficients: predictions are ``c + k(x)' coefficients``.
    """
    intercept = float(weights @ y / weights.sum())
    root = np.sqrt(weights)
    values, vectors = np.linalg.eigh(root[:, None] * gram * root)
    turned = vectors.T @ (root * (y - intercept))
    # Rounding can make a zero eigenvalue slightly negative.
    shrunk = turned[:, None] / (np.maximum(values, 0.0)[:, None] + ridges)
    return intercept, root[:, None] * (vectors @ shrunk)


@dataclass(frozen=True, eq=False)
class KernelFit:
    """``intercept + k(x)' coefficients``, kept within [0, 1] for a probability."""

    scale: Scale
    centres: Array
    bandwidth: float
    intercept: float
    coefficients: Array
    task: Task

    def predict(self, x: Array) -> Array:
        """``(k,)`` at the rows of ``x (k, p)``."""
        distances = squared_distances(self.scale(x), self.centres)
        kernel = gaussian(distances, self.bandwidth, x.shape[1])
        out = self.intercept + kernel @ self.coefficients
        return np.clip(out, 0.0, 1.0) if self.task is Task.PROBABILITY else out


class KernelRidge:
    """Kernel ridge regression, bandwidth and ridge chosen by weighted cross-validation.

    Covariates are standardised; weights are divided by their mean over all rows, never within a
    fold, so that ridges mean the same for all weights. Probabilities are fitted by least squares.

    Args:
        bandwidths: candidates, in units of ``sqrt(p)``.
        ridges: candidates.
        nuisance_folds: folds that choose for a nuisance.
        effect_folds: folds that choose for the effect.

    Raises:
        ValueError: for an empty grid, a number that is not positive, fewer than two folds.
    """

    def __init__(
        self,
        *,
        bandwidths: list[float],
        ridges: list[float],
        nuisance_folds: int = 3,
        effect_folds: int = 5,
    ) -> None:
        for name, grid in (("bandwidths", bandwidths), ("ridges", ridges)):
            if not grid or not all(math.isfinite(value) and value > 0 for value in grid):
                raise ValueError(f"{name}: {grid} has to be positive numbers, at least one")
        if min(nuisance_folds, effect_folds) < 2:
            raise ValueError(f"{nuisance_folds} and {effect_folds} folds: two are the least")
        self.bandwidths = list(bandwidths)
        self.ridges = np.array(ridges, dtype=np.float64)
        self.folds = {Role.NUISANCE: nuisance_folds, Role.EFFECT: effect_folds}

    def tune(
        self,
        x: Array,
        y: Array,
        *,
        task: Task,
        role: Role,
        rng: np.random.Generator,
        weights: Array | None = None,
        groups: npt.NDArray[np.int64] | None = None,
    ) -> Setting:
        """The setting with the least weighted squared error over the folds; the first of equals."""
        loss = self.losses(x, y, role=role, rng=rng, weights=weights, groups=groups)
        row, column = divmod(int(loss.argmin()), len(self.ridges))
        return Setting(self.bandwidths[row], float(self.ridges[column]))

    def losses(
        self,
        x: Array,
        y: Array,
        *,
        role: Role,
        rng: np.random.Generator,
        weights: Array | None = None,
        groups: npt.NDArray[np.int64] | None = None,
    ) -> Array:
        """Cross-validated ``sum_i w_i (y_i - f(x_i))^2 / n``, ``(bandwidths, ridges)``."""
        w = _mean_one(weights, len(y))
        fold = _folds(len(y), self.folds[role], rng, groups)
        scaled = Scale.of(x)(x)
        distances = squared_distances(scaled, scaled)
        loss = np.zeros((len(self.bandwidths), len(self.ridges)))
        for row, bandwidth in enumerate(self.bandwidths):
            gram = gaussian(distances, bandwidth, x.shape[1])
            for k in range(self.folds[role]):
                seen, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
                intercept, coefficients = solve(
                    gram[np.ix_(seen, seen)], y[seen], w[seen], self.ridges
                )
                predicted = intercept + gram[np.ix_(held, seen)] @ coefficients
                loss[row] += w[held] @ (y[held, None] - predicted) ** 2
        return loss / len(y)

    def fit(
        self, setting: Setting, x: Array, y: Array, *, task: Task, weights: Array | None = None
    ) -> KernelFit:
        """Closed form with one bandwidth and ridge."""
        scale = Scale.of(x)
        centres = scale(x)
        gram = gaussian(squared_distances(centres, centres), setting.bandwidth, x.shape[1])
        w = _mean_one(weights, len(y))
        intercept, coefficients = solve(gram, y, w, np.array([setting.ridge]))
        return KernelFit(scale, centres, setting.bandwidth, intercept, coefficients[:, 0], task)


def _mean_one(weights: Array | None, n: int) -> Array:
    return np.ones(n) if weights is None else weights / weights.mean()


def _folds(
    n: int, folds: int, rng: np.random.Generator, groups: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """Fold of each row; rows of one group share theirs."""
    inverse = (
        np.arange(n, dtype=np.int64)
        if groups is None
        else np.unique(groups, return_inverse=True)[1].astype(np.int64)
    )
    count = int(inverse.max()) + 1
    if count < folds:
        raise ValueError(f"{folds} folds of {count} units")
    return rng.permutation(np.arange(count, dtype=np.int64) % folds)[inverse]
