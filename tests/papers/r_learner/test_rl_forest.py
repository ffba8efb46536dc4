"""Forests: how a tree's rows are drawn and split, the design, and a tuning by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from retable.papers.r_learner.crossfit import Units, assign_folds, cross_fit, tune_nuisances
from retable.papers.r_learner.learners.base import Role, Task
from retable.papers.r_learner.learners.forest import (
    RandomForest,
    Setting,
    draw_design,
    fit_forest,
)
from retable.papers.r_learner.learners.racing import draw_folds
from retable.papers.r_learner.setups import draw


def problem(seed: int = 0, n: int = 80, p: int = 9):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    return x, x[:, 0] + rng.standard_normal(n), rng.random(n) + 0.1


def rows_of_the_first_tree(setting: Setting, n: int, weights=None) -> np.ndarray:
    chance = None if weights is None else weights / weights.sum()
    return np.random.default_rng(setting.seed).choice(n, n, p=chance)


def test_a_forest_has_the_trees_and_the_nodes_of_its_setting():
    x, y, _ = problem()
    forest = fit_forest(Setting(7, 20, 3), x, y, None)
    assert len(forest.trees) == 7
    for tree in forest.trees:
        inner = tree.tree_.children_left >= 0
        assert inner.any()
        assert tree.tree_.n_node_samples[inner].min() >= 20
        assert tree.tree_.n_node_samples[0] == len(x)
        assert tree.max_features_ == 3  # of nine
    each = [tree.predict(x.astype(np.float32)) for tree in forest.trees]
    np.testing.assert_allclose(forest.predict(x), np.mean(each, axis=0), rtol=1e-12)
    assert np.ptp([values[0] for values in each]) > 0


@pytest.mark.parametrize(("p", "looked_at"), [(1, 1), (3, 1), (10, 3), (11, 3), (16, 4)])
def test_a_split_looks_at_the_root_of_the_number_of_covariates(p, looked_at):
    x, y, _ = problem(p=p)
    assert fit_forest(Setting(1, 40, 0), x, y, None).trees[0].max_features_ == looked_at


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_a_tree_is_grown_on_rows_drawn_in_proportion_to_the_weights(weighted):
    """Nodes that may not be split: the tree is the plain mean of the rows that were drawn."""
    x, y, w = problem()
    weights = w**3 if weighted else None
    setting = Setting(1, len(x) + 1, 5)
    rows = rows_of_the_first_tree(setting, len(x), weights)
    found = fit_forest(setting, x, y, weights).predict(x[:2])
    np.testing.assert_allclose(found, y[rows].mean(), rtol=1e-12)
    # On average over trees that is the weighted mean, within five standard errors.
    many = fit_forest(Setting(2000, len(x) + 1, 6), x, y, weights).predict(x[:1])[0]
    chance = np.full(len(x), 1 / len(x)) if weights is None else weights / weights.sum()
    mean = chance @ y
    error = math.sqrt(chance @ (y - mean) ** 2 / len(x) / 2000)
    assert abs(many - mean) < 5 * error
    assert not weighted or abs(mean - y.mean()) > 20 * error


def test_rows_without_weight_are_not_seen_and_a_common_factor_does_not_matter():
    x, y, w = problem()
    w[:30] = 0
    spoiled = y.copy()
    spoiled[:30] = 1e9
    setting = Setting(5, 5, 2)
    found = fit_forest(setting, x, y, w).predict(x)
    assert np.array_equal(fit_forest(setting, x, spoiled, w).predict(x), found)
    np.testing.assert_allclose(fit_forest(setting, x, y, 4 * w).predict(x), found, rtol=1e-12)
    assert np.abs(fit_forest(setting, x, spoiled, None).predict(x)).max() > 1e6


def test_the_first_split_is_the_best_one():
    x, y, _ = problem(p=1)
    setting = Setting(1, len(x), 9)
    rows = rows_of_the_first_tree(setting, len(x))
    order = rows[np.argsort(x[rows, 0], kind="stable")]
    values, outcomes = x[order, 0], y[order]
    best = min(
        (outcomes[:k].var() * k + outcomes[k:].var() * (len(x) - k), k)
        for k in range(1, len(x))
        if values[k] > values[k - 1]
    )[1]
    tree = fit_forest(setting, x, y, None).trees[0].tree_
    middle = (values[best] + values[best - 1]) / 2
    assert tree.threshold[0] == pytest.approx(middle, rel=1e-6)


def test_a_probability_is_the_mean_share_of_trees_split_by_gini():
    x, _, w = problem()
    a = (np.random.default_rng(1).random(len(x)) < 0.4).astype(float)
    setting = Setting(1, 10, 4)
    forest = fit_forest(setting, x, a, w)
    rows = rows_of_the_first_tree(setting, len(x), w)
    peer = DecisionTreeClassifier(
        criterion="gini",
        max_features=3,
        min_samples_split=10,
        random_state=forest.trees[0].random_state,
    ).fit(x[rows], a[rows])
    np.testing.assert_allclose(forest.predict(x), peer.predict_proba(x)[:, 1], atol=1e-12)
    many = fit_forest(Setting(20, 10, 4), x, a, w).predict(x)
    assert many.min() >= 0
    assert many.max() <= 1


def test_a_design_hits_every_part_of_every_range_once():
    design = draw_design(np.random.default_rng(0), 25, [(1, 2000), (2, 40)])
    assert design.shape == (25, 2)
    assert sorted((design[:, 0] - 1) // 80) == list(range(25))
    assert (design >= [1, 2]).all()
    assert (design <= [2000, 40]).all()
    assert sorted(draw_design(np.random.default_rng(1), 39, [(2, 40)])[:, 0]) == list(range(2, 41))
    other = draw_design(np.random.default_rng(1), 25, [(1, 2000), (2, 40)])
    assert not np.array_equal(design, other)


@pytest.mark.slow
@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("weighted", [False, True])
def test_a_tuning_without_drop_out_is_the_least_weighted_loss_over_folds(task, weighted):
    x, y, w = problem(n=40)
    if task is Task.PROBABILITY:
        y = (y > 0).astype(float)
    weights = w**2 if weighted else None
    learner = RandomForest(n_candidates=5, trees=(1, 8), n_folds=3, burn_in=3)
    options = {"task": task, "role": Role.EFFECT, "weights": weights}
    chosen = learner.tune(x, y, rng=np.random.default_rng(8), **options)
    # By hand: the same draws in the same order.
    rng = np.random.default_rng(8)
    design = draw_design(rng, 5, [(1, 8), (2, 40)])
    seeds = rng.integers(2**62, size=5)
    folds = draw_folds(rng, 40, 3)
    settings = [Setting(*map(int, row), int(s)) for row, s in zip(design, seeds, strict=True)]
    means = []
    for setting in settings:
        losses = []
        for k in range(3):
            held = folds == k
            inside = None if weights is None else weights[~held]
            found = fit_forest(setting, x[~held], y[~held], inside).predict(x[held])
            if task is Task.PROBABILITY:
                with np.errstate(divide="ignore"):
                    loss = np.minimum(100, -np.log(np.where(y[held] == 1, found, 1 - found)))
            else:
                loss = (y[held] - found) ** 2
            losses.append(np.mean(loss if weights is None else weights[held] * loss))
        means.append(np.mean(losses))
    assert chosen == settings[int(np.argmin(means))]
    assert learner.tune(x, y, rng=np.random.default_rng(8), **options) == chosen


@pytest.mark.parametrize("order", [2, 3, 4])
def test_a_units_nuisances_do_not_move_with_its_own_outcome(order):
    sample = draw("a", 48, np.random.default_rng(0))
    learner = RandomForest(n_candidates=1, trees=(3, 3), n_folds=2)
    data = Units(sample.x, sample.a, sample.y)
    settings = tune_nuisances(data, learner, seed=0)
    fold = assign_folds(48, {2: 4}.get(order, order), np.random.default_rng(7))
    first = cross_fit(data, learner, settings, fold, order=order)
    y, a = sample.y.copy(), sample.a.copy()
    y[17], a[17] = 1e9, 1 - a[17]
    second = cross_fit(Units(sample.x, a, y), learner, settings, fold, order=order)
    own = first.unit == 17
    for name in ("pi", "kappa", "m", "mu1", "mu0", "mu1_separate", "mu0_separate"):
        before, after = (getattr(cross.nuisances, name) for cross in (first, second))
        assert np.array_equal(before[own], after[own]), name
    assert np.abs(second.nuisances.m[~own]).max() > 1e4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trees": (0, 3)}, r"trees: \[0, 3\] has to be the least, 1 or more"),
        ({"min_n": (5, 4)}, r"min_n: \[5, 4\]"),
        ({"trees": (3,)}, r"trees: \[3\]"),
    ],
)
def test_a_range_that_is_none_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandomForest(**options)
