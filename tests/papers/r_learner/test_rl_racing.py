"""Racing: the test by scipy, the rule by brute force, folds and losses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from retable.papers.r_learner.learners.racing import (
    draw_folds,
    log_loss,
    race,
    squared_loss,
    worse,
)
from support.rl_literal import literal_race


@given(st.integers(0, 10**6), st.integers(3, 10))
@settings(max_examples=40, deadline=None)
def test_the_p_values_are_scipys(seed, k):
    rng = np.random.default_rng(seed)
    best = rng.exponential(1.0, k) * 10 ** rng.uniform(-2, 2)
    others = rng.exponential(1.0, (k, 4)) * 10 ** rng.uniform(-2, 2, 4)
    p = worse(best, others)
    for j in range(4):
        if min(best.var(ddof=1), others[:, j].var(ddof=1)) > 1e-5:
            expected = ttest_ind(best, others[:, j], equal_var=False, alternative="less").pvalue
            assert p[j] == pytest.approx(expected, rel=1e-9)
        else:
            assert p[j] == 1


def test_the_test_is_one_sided_and_unpaired():
    best = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    p = worse(best, np.stack([best + 0.01, best + 100, best - 100], axis=1))
    assert p[0] == pytest.approx(0.496, abs=0.001)  # paired it would be 0
    assert p[1] < 1e-9
    assert p[2] > 1 - 1e-9


def test_no_test_where_a_variance_is_tiny():
    steady = np.full(5, 1.0) + 1e-3 * np.arange(5)  # variance 2.5e-6
    loud = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert worse(steady, (loud + 1e6)[:, None])[0] == 1
    assert worse(loud, (steady + 1e6)[:, None])[0] == 1
    assert worse(loud, (loud + 1e6)[:, None])[0] < 1e-6


@pytest.mark.slow
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 10), st.sampled_from([1.0, 1e-3]))
@settings(max_examples=150, deadline=None)
def test_the_winner_and_the_evaluations_are_those_of_brute_force(seed, size, n_folds, scale):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(0, 3, size) * rng.integers(0, 2)
    table = scale * (quality + rng.exponential(1.0, (n_folds, size)))
    burn_in = min(5, n_folds)
    calls = ([], [])

    def losses(fold, chosen):
        calls[0].extend((fold, int(j)) for j in chosen)
        return table[fold, chosen]

    def loss(fold, j):
        calls[1].append((fold, j))
        return table[fold, j]

    winner = race(losses, size, n_folds, burn_in)
    assert winner == literal_race(loss, size, n_folds, burn_in, 0.05)
    assert calls[0] == calls[1]
    assert len(set(calls[0])) == len(calls[0])


def test_nobody_is_dropped_before_the_burn_in_and_one_left_ends_the_race():
    table = np.random.default_rng(0).exponential(1.0, (10, 3)) + np.array([0.0, 50, 90])
    seen = []
    assert race(lambda i, j: seen.append((i, *j)) or table[i, j], 3, 10, burn_in=5) == 0
    assert seen == [(i, 0, 1, 2) for i in range(5)]


def test_a_tie_goes_to_the_first():
    losses = np.repeat(np.random.default_rng(0).random((6, 1)), 3, axis=1)
    assert race(lambda i, j: losses[i, j] + (j == 0), 3, 6, burn_in=5) == 1


def test_folds_are_balanced_and_random():
    folds = draw_folds(np.random.default_rng(0), 93, 10)
    assert sorted(np.bincount(folds)) == [9] * 7 + [10] * 3
    assert (folds != draw_folds(np.random.default_rng(1), 93, 10)).any()
    assert (np.diff(folds) < 0).any()


def test_groups_stay_together():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(23) * 7, 6))
    folds = draw_folds(np.random.default_rng(0), len(groups), 10, groups)
    assert all(len(set(folds[groups == g])) == 1 for g in set(groups))
    assert sorted(np.bincount(folds)) == [12] * 7 + [18] * 3


def test_few_rows_have_as_many_folds():
    assert sorted(draw_folds(np.random.default_rng(0), 4, 10)) == [0, 1, 2, 3]
    for n, k in ((1, 10), (0, 10), (5, 1)):
        with pytest.raises(ValueError, match="cross-validation"):
            draw_folds(np.random.default_rng(0), n, k)
    with pytest.raises(ValueError, match="3 groups for 4 rows"):
        draw_folds(np.random.default_rng(0), 4, 2, np.arange(3))


def test_losses_by_hand():
    p, y, w = np.array([0.0, 0.25, 1.0]), np.array([1.0, 1.0, 0.0]), np.array([1.0, 2.0, 0.5])
    assert log_loss(p, y, None) == pytest.approx((100 + np.log(4) + 100) / 3)
    assert log_loss(p, y, w) == pytest.approx((100 + 2 * np.log(4) + 50) / 3)
    assert squared_loss(p, y, None) == pytest.approx((1 + 0.5625 + 1) / 3)
    assert squared_loss(p, y, w) == pytest.approx((1 + 2 * 0.5625 + 0.5) / 3)
    assert squared_loss(p, y, 7 * w) == pytest.approx(7 * squared_loss(p, y, w))  # not normalised


def test_losses_of_many_predictions_are_those_of_each_to_the_last_bit():
    rng = np.random.default_rng(0)
    p, w = rng.random((7, 93)), rng.random(93)
    a = (rng.random(93) < 0.5) * 1.0
    for measure, y in ((squared_loss, rng.standard_normal(93)), (log_loss, a)):
        for weights in (None, w):
            assert (measure(p, y, weights) == [measure(each, y, weights) for each in p]).all()


def test_the_best_stays_whatever_the_level():
    losses = np.random.default_rng(0).random((10, 4)) + np.array([0.5, 0.0, 0.4, 0.3])
    assert race(lambda fold, some: losses[fold, some], 4, 10, alpha=0.9) == 1
