"""Boosting light: as many folds of burn-in as there are is cross-validation without racing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.config.compose import compose, hydra_ready
from retable.papers.r_learner.learners.base import Role, Task
from retable.papers.r_learner.learners.grid import draw_grid
from retable.papers.r_learner.learners.lightgbm import LightGBM
from retable.papers.r_learner.learners.racing import draw_folds, race
from support.rl_literal import metric, train


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_a_race_that_is_all_burn_in_takes_the_least_mean_of_all(seed, size, n_folds):
    rng = np.random.default_rng(seed)
    # Far apart, so that a test after any earlier fold would drop candidates.
    table = rng.exponential(1.0, (n_folds, size)) + 50 * rng.integers(0, 3, size)
    seen: list[tuple[int, int]] = []

    def losses(fold: int, chosen: np.ndarray) -> np.ndarray:
        seen.extend((fold, int(j)) for j in chosen)
        return table[fold, chosen]

    winner = race(losses, size, n_folds, n_folds)
    assert winner == int(table.mean(axis=0).argmin())
    assert size == 1 or sorted(seen) == [(f, j) for f in range(n_folds) for j in range(size)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mse", "weighted", "nll"])
def test_boosting_light_is_plain_cross_validation(kind):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((120, 4))
    y = x[:, 0] + rng.standard_normal(120)
    task = Task.PROBABILITY if kind == "nll" else Task.REGRESSION
    if kind == "nll":
        y = (y > 0).astype(float)
    weights = rng.random(120) if kind == "weighted" else None
    learner = LightGBM(n_candidates=4, n_folds=5, burn_in=5)
    chosen = learner.tune(
        x, y, task=task, role=Role.EFFECT, rng=np.random.default_rng(5), weights=weights
    )
    rng = np.random.default_rng(5)
    grid = draw_grid(rng, 4)
    folds = draw_folds(rng, 120, 5)
    means = []
    for candidate in grid:
        losses = []
        for k in range(5):
            held = folds == k
            inside, outside = (None if weights is None else weights[s] for s in (~held, held))
            model = train(candidate, x[~held], y[~held], task, inside)
            losses.append(metric(model.predict(x[held]), y[held], task, outside))
        means.append(np.mean(losses))
    assert chosen == grid[int(np.argmin(means))]


def test_the_experiment_is_the_light_protocol():
    with hydra_ready():
        light = compose(["experiment=r_learner/boosting_light", "seed=0"])
        paper = compose(["experiment=r_learner/lightgbm", "seed=0", "data.n=500"])
    assert (light.protocol, paper.protocol) == ("light", "paper")
    assert light.data == paper.data
    learner = light.model["learner"]
    assert (learner["n_candidates"], learner["n_folds"], learner["burn_in"]) == (8, 5, 5)
    # Nothing else differs from the paper's.
    same = {**light.model, "learner": None}
    assert same == {**paper.model, "learner": None}
