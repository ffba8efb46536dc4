"""Predictions of many candidates at the rows of a fold."""

from __future__ import annotations

from functools import cache

import lightgbm
import numpy as np

from retable.papers.r_learner.learners.base import Array, Task
from retable.papers.r_learner.learners.boosting.bins import tabulate
from retable.papers.r_learner.learners.boosting.trees import boost
from retable.papers.r_learner.learners.grid import Candidate


@cache
def rate_as_read(rate: float) -> float:
    """The learning rate that LightGBM takes for ``rate``: it reads the decimals with an error.

    Found as the value of a leaf whose mean is 1.
    """
    x = np.repeat([0.0, 1.0], 64)[:, None]
    parameters = {
        "learning_rate": rate,
        "num_iterations": 1,
        "boost_from_average": False,
        "num_threads": 1,
        "verbosity": -1,
    }
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, x[:, 0]))
    return float(np.asarray(booster.predict(x[-1:], num_threads=1))[0])


def within_reach(x: Array, y: Array, task: Task, weights: Array | None) -> bool:
    """Whether :func:`predictions` can be had: finite covariates, both classes, positive weights."""
    if task is Task.PROBABILITY and not 0 < y.sum() < len(y):
        return False
    return bool(np.isfinite(x).all() and (weights is None or (weights > 0).all()))


def predictions(
    candidates: list[Candidate],
    seen: Array,
    y: Array,
    held: Array,
    task: Task,
    weights: Array | None,
) -> Array:
    """Fit each candidate and predict.

    Args:
        candidates: ``m`` settings.
        seen: ``(n, p)`` rows to fit to.
        y: ``(n,)``; 0 or 1 where the task is a probability.
        held: ``(k, p)`` rows to predict.
        task: what is predicted.
        weights: ``(n,)``, or ``None`` for 1 each.

    Returns:
        ``(m, k)`` means, or probabilities.
    """
    w = np.empty(0) if weights is None else weights
    return boost(
        tabulate(np.ascontiguousarray(seen), np.ascontiguousarray(held)),
        y.astype(np.float32).astype(np.float64),
        w.astype(np.float32).astype(np.float64),
        task is Task.PROBABILITY,
        np.array([c.n_trees for c in candidates]),
        np.array([rate_as_read(c.rate) for c in candidates]),
        np.array([c.leaves for c in candidates]),
        np.array([c.min_data for c in candidates]),
        np.array([c.min_gain for c in candidates]),
    )
