"""The paper's LightGBM protocol, literally: LightGBM itself, one call per candidate and fold, data
sets built anew, and one of scipy's tests per candidate. For tests and the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from scipy.stats import ttest_ind

from retable.papers.r_learner.learners.base import Task
from retable.papers.r_learner.learners.grid import Candidate, draw_grid
from retable.papers.r_learner.learners.lightgbm import parameters
from retable.papers.r_learner.learners.racing import draw_folds


def train(candidate: Candidate, x: Any, y: Any, task: Task, weights: Any = None) -> Any:
    return lightgbm.train(parameters(candidate, task), lightgbm.Dataset(x, y, weight=weights))


def metric(prediction: Any, y: Any, task: Task, weights: Any) -> float:
    w = np.ones(len(y)) if weights is None else weights
    if task is Task.PROBABILITY:
        with np.errstate(divide="ignore"):
            loss = -np.log(np.where(y == 1, prediction, 1 - prediction))
        return float(np.mean(w * np.minimum(100, loss)))
    return float(np.mean(w * (prediction - y) ** 2))


def literal_race(loss: Any, size: int, n_folds: int, burn_in: int, alpha: float) -> int:
    """As the authors write it down; a table with NaN where a candidate was skipped."""
    table = np.full((n_folds, size), np.nan)
    skip = np.zeros(size, bool)
    best = 0
    for i in range(n_folds):
        for j in range(size):
            if not skip[j]:
                table[i, j] = loss(i, j)
        means = np.array([np.inf if skip[j] else table[: i + 1, j].mean() for j in range(size)])
        best = int(np.flatnonzero(means == means.min())[0])
        a = table[: i + 1, best]
        for j in range(size):
            b = table[: i + 1, j]
            if not skip[j] and i + 1 >= burn_in and min(a.var(ddof=1), b.var(ddof=1)) > 1e-5:
                skip[j] = ttest_ind(a, b, equal_var=False, alternative="less").pvalue < alpha
        if (~skip).sum() == 1:
            break
    return best


@dataclass(frozen=True)
class Literal:
    """A learner with the same grid, folds and rules as ``LightGBM``, given the same generator."""

    n_candidates: int = 25
    n_folds: int = 10
    burn_in: int = 5
    alpha: float = 0.05

    def tune(
        self, x: Any, y: Any, *, task: Task, role: Any, rng: Any, weights: Any = None,
        groups: Any = None,
    ) -> Candidate:  # fmt: skip
        grid = draw_grid(rng, self.n_candidates)
        folds = draw_folds(rng, len(x), self.n_folds, groups)

        def loss(i: int, j: int) -> float:
            held = folds == i
            inside = None if weights is None else weights[~held]
            model = train(grid[j], x[~held], y[~held], task, inside)
            outside = None if weights is None else weights[held]
            return metric(model.predict(x[held]), y[held], task, outside)

        winner = literal_race(loss, len(grid), folds.max() + 1, self.burn_in, self.alpha)
        return grid[winner]

    def fit(self, setting: Any, x: Any, y: Any, *, task: Task, weights: Any = None) -> Any:
        return train(setting, x, y, task, weights)
