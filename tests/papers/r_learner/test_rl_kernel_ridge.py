"""Kernel ridge regression against plain solves, limits and invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.r_learner.learners.base import Role, Task
from retable.papers.r_learner.learners.kernel_ridge import KernelRidge, Setting

REGRESSION = Task.REGRESSION
LEARNER = KernelRidge(bandwidths=[1.0, 2.5], ridges=[0.1, 1.0, 10.0])


def data(seed: int, n: int = 40, p: int = 3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) * [1.0, 5.0, 0.1][:p] + 2
    return x, np.sin(x[:, 0]) + 0.1 * rng.standard_normal(n), rng.uniform(0.1, 3.0, n)


def plain(x, y, w, at, bandwidth, ridge, scale=None):
    """Pair by pair: ``(W K + lambda I) alpha = W (y - c)``."""
    scale = x if scale is None else scale
    mean, std = scale.mean(axis=0), scale.std(axis=0)
    x, at = (x - mean) / std, (at - mean) / std
    h = bandwidth * np.sqrt(x.shape[1])

    def kernel(left, right):
        return np.array([[np.exp(-((u - v) ** 2).sum() / (2 * h**2)) for v in right] for u in left])

    c = np.average(y, weights=w)
    alpha = np.linalg.solve(w[:, None] * kernel(x, x) + ridge * np.eye(len(x)), w * (y - c))
    return c + kernel(at, x) @ alpha


def plain_losses(x, y, w, fold, learner):
    out = np.zeros((len(learner.bandwidths), len(learner.ridges)))
    for i, bandwidth in enumerate(learner.bandwidths):
        for j, ridge in enumerate(learner.ridges):
            for k in range(int(fold.max()) + 1):
                seen, held = fold != k, fold == k
                found = plain(x[seen], y[seen], w[seen], x[held], bandwidth, ridge, scale=x)
                out[i, j] += (w[held] * (y[held] - found) ** 2).sum()
    return out / len(y)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("setting", [Setting(1.0, 0.1), Setting(2.5, 10.0)])
def test_a_fit_solves_the_normal_equations(weighted, setting):
    x, y, w = data(0)
    at = data(1)[0]
    fit = LEARNER.fit(setting, x, y, task=REGRESSION, weights=w if weighted else None)
    used = w / w.mean() if weighted else np.ones_like(w)
    expected = plain(x, y, used, at, setting.bandwidth, setting.ridge)
    np.testing.assert_allclose(fit.predict(at), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("role", "folds"), [(Role.NUISANCE, 3), (Role.EFFECT, 5)])
def test_tuning_is_weighted_cross_validation_with_the_folds_of_its_role(role, folds):
    """Weights are divided by their mean over all rows, and not again in a fold."""
    x, y, w = data(2)
    rng = np.random.default_rng(5)
    losses = LEARNER.losses(x, y, role=role, rng=np.random.default_rng(5), weights=w)
    fold = rng.permutation(np.arange(40) % folds)
    expected = plain_losses(x, y, w / w.mean(), fold, LEARNER)
    np.testing.assert_allclose(losses, expected, rtol=1e-8)
    chosen = LEARNER.tune(x, y, task=REGRESSION, role=role, rng=np.random.default_rng(5), weights=w)
    i, j = np.unravel_index(expected.argmin(), expected.shape)
    assert chosen == Setting(LEARNER.bandwidths[i], LEARNER.ridges[j])


def test_weights_change_what_is_chosen():
    """Half of the units are noise: a loss without the weights would see it."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (120, 1))
    good = np.arange(120) < 60
    y = np.where(good, np.sin(3 * x[:, 0]), 30 * rng.standard_normal(120))

    def chosen(weights):
        rng = np.random.default_rng(1)
        return LEARNER.tune(x, y, task=REGRESSION, role=Role.EFFECT, rng=rng, weights=weights)

    assert chosen(np.where(good, 1.0, 1e-6)) == Setting(1.0, 0.1)
    assert chosen(None) == Setting(2.5, 10.0)


@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-3, 1e3))
@settings(max_examples=20)
def test_the_size_of_weights_the_units_of_x_and_a_shift_of_y_do_not_matter(seed, factor):
    x, y, w = data(seed)
    setting = Setting(1.0, 0.1)
    base = LEARNER.fit(setting, x, y, task=REGRESSION, weights=w).predict(x)
    moved = LEARNER.fit(setting, x * factor + 1, y + 7, task=REGRESSION, weights=w * factor)
    np.testing.assert_allclose(moved.predict(x * factor + 1), base + 7, rtol=1e-6, atol=1e-6)


def test_a_unit_of_weight_zero_is_as_if_it_were_not_there():
    x, y, w = data(3)
    x = np.vstack([x, -x])  # the same standard deviation whatever weight the copies have
    w = np.concatenate([w, np.zeros(40)])
    first = LEARNER.fit(Setting(1.0, 0.1), x, np.append(y, y), task=REGRESSION, weights=w)
    second = LEARNER.fit(Setting(1.0, 0.1), x, np.append(y, 1e6 * y), task=REGRESSION, weights=w)
    np.testing.assert_allclose(first.predict(x), second.predict(x), rtol=1e-9)


def test_a_weight_of_two_is_a_unit_that_stands_there_twice():
    x, y, _ = data(4)
    w = np.array([2.0] * 10 + [1.0] * 30)
    # The mean weight is 50 / 40 on one side and 1 on the other: the ridge makes up for it.
    single = LEARNER.fit(Setting(1.0, 1.0), x, y, task=REGRESSION, weights=w)
    scale = plain(np.vstack([x, x[:10]]), np.append(y, y[:10]), np.ones(50), x, 1.0, 1.25, scale=x)
    np.testing.assert_allclose(single.predict(x), scale, rtol=1e-8, atol=1e-8)


def test_limits_of_the_ridge():
    x, y, w = data(5)
    flat = LEARNER.fit(Setting(1.0, 1e12), x, y, task=REGRESSION, weights=w).predict(x)
    np.testing.assert_allclose(flat, np.average(y, weights=w), rtol=1e-8)
    close = LEARNER.fit(Setting(0.1, 1e-9), x, y, task=REGRESSION, weights=w).predict(x)
    np.testing.assert_allclose(close, y, atol=1e-5)


def test_probabilities_are_kept_between_0_and_1():
    x = np.linspace(-1, 1, 30)[:, None]
    a = (x[:, 0] > 0).astype(float)
    setting = Setting(1.0, 0.1)
    free = LEARNER.fit(setting, x, a, task=REGRESSION).predict(x)
    kept = LEARNER.fit(setting, x, a, task=Task.PROBABILITY).predict(x)
    assert free.min() < 0
    assert free.max() > 1
    assert np.array_equal(kept, np.clip(free, 0, 1))


def test_rows_of_one_unit_stay_in_one_fold():
    """Outcomes are noise, so only a copy of a unit on the other side can make it predictable."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((40, 3)), 6, axis=0)
    y = np.repeat(rng.standard_normal(40), 6)
    unit = np.repeat(np.arange(100, 140), 6)
    learner = KernelRidge(bandwidths=[0.5], ridges=[1e-3, 1e3])

    def chosen(groups):
        rng = np.random.default_rng(1)
        return learner.tune(x, y, task=REGRESSION, role=Role.EFFECT, rng=rng, groups=groups).ridge

    assert chosen(unit) == 1e3
    assert chosen(None) == 1e-3


def test_constant_columns_do_no_harm():
    x, y, _ = data(6)
    x = np.column_stack([x, np.ones(40)])
    fit = LEARNER.fit(Setting(1.0, 0.1), x, y, task=REGRESSION)
    assert np.isfinite(fit.predict(x)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidths": []}, "bandwidths"),
        ({"ridges": [1.0, 0.0]}, "ridges"),
        ({"ridges": [float("inf")]}, "ridges"),
        ({"effect_folds": 1}, "two are the least"),
    ],
)
def test_a_grid_that_cannot_be_searched_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        KernelRidge(**{"bandwidths": [1.0], "ridges": [1.0], **options})


def test_fewer_units_than_folds_are_refused():
    x, y, _ = data(7, n=4)
    with pytest.raises(ValueError, match="5 folds of 4 units"):
        LEARNER.tune(x, y, task=REGRESSION, role=Role.EFFECT, rng=np.random.default_rng(0))
