"""The paper's learner: LightGBM, tuned on a random grid by racing (extra ``r-learner``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import Array, Fitted, Role, Task
from retable.papers.r_learner.learners.grid import Candidate, draw_grid
from retable.papers.r_learner.learners.racing import draw_folds, log_loss, race, squared_loss


def parameters(candidate: Candidate, task: Task) -> dict[str, Any]:
    """What LightGBM is told to fit a candidate; all else is at its defaults."""
    return {
        "objective": "binary" if task is Task.PROBABILITY else "regression",
        "num_iterations": candidate.n_trees,
        "learning_rate": candidate.rate,
        "num_leaves": candidate.leaves,
        "bagging_fraction": candidate.bagging,
        "min_data_in_leaf": candidate.min_data,
        "min_gain_to_split": candidate.min_gain,
        "num_threads": 1,
        "verbosity": -1,
    }


@dataclass(frozen=True)
class Boosted:
    """A fitted model.

    Attributes:
        booster: LightGBM's own.
    """

    booster: lightgbm.Booster

    def predict(self, x: Array) -> Array:
        """Means, or probabilities, ``(n,)``, at the rows of ``x``, ``(n, p)``."""
        return np.asarray(self.booster.predict(x, num_threads=1), np.float64)


def fit_trees(
    candidate: Candidate, x: Array, y: Array, task: Task, weights: Array | None
) -> Boosted:
    """Fit one candidate.

    Args:
        candidate: the setting.
        x: ``(n, p)``.
        y: ``(n,)``; 0 or 1 where the task is a probability.
        task: what is predicted.
        weights: ``(n,)``, or ``None`` for 1 each.
    """
    data = lightgbm.Dataset(x, y, weight=weights)
    return Boosted(lightgbm.train(parameters(candidate, task), data))


def fold_losses(
    candidates: list[Candidate],
    folds: npt.NDArray[np.int64],
    x: Array,
    y: Array,
    task: Task,
    weights: Array | None,
) -> Callable[[int, int], float]:
    """The loss of (fold, candidate), for :func:`.racing.race`, with the weights of the fit."""
    measure = log_loss if task is Task.PROBABILITY else squared_loss

    def loss(fold: int, j: int) -> float:
        held = folds == fold
        inside = None if weights is None else weights[~held]
        outside = None if weights is None else weights[held]
        fitted = fit_trees(candidates[j], x[~held], y[~held], task, inside)
        return measure(fitted.predict(x[held]), y[held], outside)

    return loss


@dataclass(frozen=True)
class LightGBM:
    """LightGBM with the paper's grid and racing cross-validation.

    Attributes:
        n_candidates: size of the random grid, drawn anew in every call of ``tune``.
        n_folds: folds of the cross-validation.
        burn_in: folds on which every candidate is evaluated.
        alpha: level of the tests that drop candidates.
    """

    n_candidates: int = 25
    n_folds: int = 10
    burn_in: int = 5
    alpha: float = 0.05

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
    ) -> Candidate:
        """Choose a candidate; draws the grid, then the folds. See ``Learner.tune``."""
        candidates = draw_grid(rng, self.n_candidates)
        folds = draw_folds(rng, len(x), self.n_folds, groups)
        winner = race(
            fold_losses(candidates, folds, x, y, task, weights),
            len(candidates),
            int(folds.max()) + 1,
            min(self.burn_in, int(folds.max()) + 1),
            self.alpha,
        )
        return candidates[winner]

    def fit(
        self, setting: Candidate, x: Array, y: Array, *, task: Task, weights: Array | None = None
    ) -> Fitted:
        """Fit the candidate on all rows. See ``Learner.fit``."""
        return fit_trees(setting, x, y, task, weights)
