"""Weighted least squares on a fixed basis: the learner whose fits have a closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import Array, Role, Task


def basis(x: Array) -> Array:
    """``(1, x)``, ``(n, p + 1)``."""
    return np.column_stack([np.ones(len(x)), x])


def weighted_least_squares(phi: Array, y: Array, weights: Array) -> Array:
    """``argmin_b sum_i w_i (y_i - phi_i' b)^2``; ``phi (n, k)``, ``y`` and weights ``(n,)``.

    Returns:
        ``(k,)`` coefficients; of least norm where they are not unique.
    """
    root = np.sqrt(weights)
    beta: Array = np.linalg.lstsq(phi * root[:, None], y * root, rcond=None)[0].astype(np.float64)
    return beta


@dataclass(frozen=True, eq=False)
class LinearFit:
    """``beta (p + 1,)``, the intercept first."""

    beta: Array

    def predict(self, x: Array) -> Array:
        """``(1, x)' beta``, ``(n,)``."""
        return basis(x) @ self.beta


class Linear:
    """Least squares on ``(1, x)``; nothing to tune, and a linear model of probabilities too."""

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
    ) -> None:
        """Nothing."""

    def fit(
        self, setting: Any, x: Array, y: Array, *, task: Task, weights: Array | None = None
    ) -> LinearFit:
        """Closed form, see :func:`weighted_least_squares`."""
        w = np.ones(len(y)) if weights is None else weights
        return LinearFit(weighted_least_squares(basis(x), y, w))
