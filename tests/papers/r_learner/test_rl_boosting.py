"""The compiled boosting is LightGBM's, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.r_learner.learners.base import Role, Task
from retable.papers.r_learner.learners.boosting.fold import (
    predictions,
    rate_as_read,
    within_reach,
)
from retable.papers.r_learner.learners.grid import Candidate, draw_grid, marginals
from retable.papers.r_learner.learners.lightgbm import (
    Compiled,
    LightGBM,
    fit_trees,
    fold_losses,
    train_each,
)
from retable.papers.r_learner.setups import draw
from support.rl_literal import Literal, metric, train

# In a fresh checkout all of it is compiled here for the first time, which takes 40 s.
pytestmark = pytest.mark.slow
KINDS = ("mse", "weighted", "nll", "weighted_nll")


def problem(kind, seed, n=150, p=10, digits=None, spread=1.0):
    """Covariates (the 11th is 0 or 1), a heavy-tailed target or a treatment, weights."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) if seed % 2 else rng.random((n, p))
    if digits is not None:
        x = np.round(x, digits)
    if p == 11:
        x[:, 10] = rng.random(n) < (0.5, 0.8, 0.15)[seed % 3]
    pi = np.clip(1 / (1 + np.exp(x[:, 0] + rng.standard_normal(n))), 0.01, 0.99)
    a = (rng.random(n) < pi) * 1.0
    u = (x[:, -1] + rng.standard_normal(n)) / (a - pi)
    w = np.abs(a - pi) ** (2 * spread) if "weighted" in kind else None
    return (x, a, Task.PROBABILITY, w) if "nll" in kind else (x, u, Task.REGRESSION, w)


def short_grid(seed, size=10, most_trees=60):
    """Candidates of the paper's grid, with fewer trees."""
    drawn = draw_grid(np.random.default_rng(seed), size)
    return [Candidate(min(c.n_trees, most_trees), *list(vars(c).values())[1:]) for c in drawn]


def assert_equal(candidates, x, y, task, w, share=0.1):
    """Bit for bit, on rows held out."""
    held = np.random.default_rng(5).random(len(x)) < share
    inside = None if w is None else w[~held]
    arguments = (candidates, x[~held], y[~held], x[held], task, inside)
    ours, expected = predictions(*arguments), train_each(*arguments)
    assert ours.shape == (len(candidates), held.sum())
    for candidate, one, other in zip(candidates, ours, expected, strict=True):
        assert (one == other).all(), candidate
    return ours


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 10, 11])
def test_predictions_are_lightgbms(kind, p):
    for seed in range(3):
        found = assert_equal(short_grid(seed), *problem(kind, seed, p=p))
        assert np.ptp(found, axis=1).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_values_than_bins(kind):
    assert_equal(short_grid(3, 5), *problem(kind, 1, n=900))
    assert_equal(short_grid(4, 5), *problem(kind, 2, n=900, p=1))


@pytest.mark.slow
@given(
    st.sampled_from(KINDS),
    st.integers(0, 10**6),
    st.integers(24, 120),
    st.sampled_from([1, 10, 11]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0.5, 1.0, 4.0]),
)
@settings(max_examples=40, deadline=None)
def test_ties_small_samples_and_heavy_weights(kind, seed, n, p, digits, spread):
    x, y, task, w = problem(kind, seed, n, p, digits, spread)
    if task is Task.REGRESSION and seed % 3 == 0:
        y = np.round(y)
    held = np.random.default_rng(5).random(n) < 0.1
    if not within_reach(x, y[~held], task, w) or not held.any():
        return
    assert_equal(short_grid(seed, 4, 25), x, y, task, w)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_equal_columns_constant_columns_and_repeated_rows(kind):
    x, y, task, w = problem(kind, 1, p=10)
    x[:, 3] = x[:, 7]
    x[:, 4] = -x[:, 7]
    x[:, 5], x[:, 6] = 2.0, 0.0
    x[:, 8] *= np.random.default_rng(0).random(len(x)) < 0.2  # mostly zeros
    assert_equal(short_grid(1), x, y, task, w)
    six = np.repeat(np.arange(len(x)), 6)  # as in cross-fitting of order 4
    assert_equal(short_grid(2, 4, 20), x[six], y[six], task, None if w is None else w[six])


def test_a_constant_target_and_too_few_rows_give_the_mean():
    x, y, task, w = problem("weighted", 0, n=30)
    found = assert_equal(short_grid(0, 4), x, np.full(30, 0.3), task, None)
    assert np.unique(found) == pytest.approx([0.3])
    assert_equal(short_grid(0, 4), x, np.full(30, 0.3), task, w)
    crowded = [Candidate(20, 0.1, 5, 1.0, 50, 1e-10)]
    assert np.ptp(assert_equal(crowded, x, y, task, w)) == 0


def test_min_gain_closes_a_covariate_for_all_descendants():
    """With small weights most gains are below the least: what is skipped matters."""
    x, y, task, w = problem("weighted", 3)
    candidates = [Candidate(40, 0.1, 20, 1.0, 10, gain) for gain in (1e-10, 1e-4, 1e-2)]
    found = assert_equal(candidates, x, y, task, w * 1e-4)
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize("kind", ["mse", "weighted"])
@pytest.mark.parametrize("factor", [1e-6, 1e4])
def test_far_from_zero_and_of_any_scale(kind, factor):
    """What a leaf's gains have in common is far greater than what tells them apart."""
    x, y, task, w = problem(kind, 5)
    y = factor * (y + 1e3 * (x[:, 0] > 0.3))
    assert_equal(short_grid(6, 6), x, y, task, w)
    assert_equal(short_grid(7, 4), x, y, task, np.geomspace(1e-5, 1e5, len(x)))


@pytest.mark.slow
@pytest.mark.parametrize("setup", "abcdef")
def test_on_the_papers_data(setup):
    sample = draw(setup, 250, np.random.default_rng(3))
    weight = (sample.a - sample.e) ** 2
    u = (sample.y - sample.m) / (sample.a - sample.e)
    grid = short_grid(ord(setup), 6, 150)
    assert_equal(grid, sample.x, sample.a, Task.PROBABILITY, None)
    assert_equal(grid, np.column_stack([sample.x, sample.a]), sample.y, Task.REGRESSION, None)
    assert_equal(grid, sample.x, u, Task.REGRESSION, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_a_fold_are_the_literal_ones(kind):
    x, y, task, w = problem(kind, 4)
    folds = np.random.default_rng(0).integers(0, 5, len(x))
    grid = short_grid(9, 5)
    chosen = np.array([0, 2, 4])
    held = folds == 2
    expected = []
    for j in chosen:
        inside, outside = (None, None) if w is None else (w[~held], w[held])
        predicted = train(grid[j], x[~held], y[~held], task, inside).predict(x[held])
        expected.append(metric(predicted, y[held], task, outside))
    for engine in ("compiled", "lightgbm"):
        found = fold_losses(grid, folds, x, y, task, w, engine)(2, chosen)
        assert found.tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fits_predictions_are_lightgbms(kind):
    x, y, task, w = problem(kind, 3)
    rows = np.random.default_rng(8).standard_normal((2000, x.shape[1]))
    for candidate in short_grid(4, 4, 200):
        found = LightGBM().fit(candidate, x, y, task=task, weights=w)
        assert isinstance(found, Compiled)
        expected = fit_trees(candidate, x, y, task, w)
        assert (found.predict(rows) == expected.predict(rows)).all()
        assert (found.predict(x) == expected.predict(x)).all()
    rows[3, 2] = np.nan
    assert (found.predict(rows) == expected.predict(rows)).all()
    own = LightGBM(engine="lightgbm").fit(candidate, x, y, task=task, weights=w)
    assert not isinstance(own, Compiled)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_race_has_the_literal_winner(kind):
    x, y, task, w = problem(kind, 6, n=120, p=11)
    options = {"task": task, "role": Role.EFFECT, "weights": w}
    a, b = (
        learner.tune(x, y, rng=np.random.default_rng(1), **options)
        for learner in (LightGBM(n_candidates=6), Literal(n_candidates=6))
    )
    assert a == b


def test_what_is_out_of_reach_is_left_to_lightgbm():
    x, a, task, _ = problem("nll", 1, n=60, p=10)
    y = np.where(np.arange(60) < 3, a, 1.0)
    y[0] = 0.0
    w = np.ones(60)
    assert within_reach(x, y, task, None)
    assert not within_reach(x, np.ones(60), task, None)
    assert not within_reach(np.where(x > 2, np.nan, x), y, task, None)
    assert not within_reach(x, y, Task.REGRESSION, np.where(np.arange(60) == 5, 0.0, w))
    folds = np.arange(60) % 10  # without fold 0 there is one class only
    y = np.where(np.arange(60) == 0, 0.0, 1.0)
    grid = short_grid(0, 2)
    found = fold_losses(grid, folds, x, y, task, None)(0, np.arange(2))
    assert found.tolist() == fold_losses(grid, folds, x, y, task, None, "lightgbm")(
        0, np.arange(2)
    ).tolist()  # fmt: skip


def test_learning_rates_are_read_to_within_one_unit_in_the_last_place():
    rates = [float(rate) for rate in marginals()["rate"]]
    read = np.array([rate_as_read(rate) for rate in rates])
    assert (np.abs(read - rates) <= np.spacing(rates)).all()
    assert rate_as_read(0.25) == 0.25
