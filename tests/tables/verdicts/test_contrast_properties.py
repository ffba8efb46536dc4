"""Claims against scipy's tests, and what has to hold whatever the numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats

from retable.tables.verdicts.contrast import Arm, conclude, contrast, wins
from support.statistics import by_seed, two

# Against scipy

numbers = st.floats(-100, 100).map(lambda x: round(x, 6))
samples = st.lists(numbers, min_size=2, max_size=12)
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12)


def spread_out(values) -> bool:
    """Whether scipy's own rounding does not show."""
    return np.std(values) > 1e-3


@given(pairs)
def test_paired_agrees_with_ttest_rel(values):
    a, b = zip(*values, strict=True)
    assume(spread_out([x - y for x, y in values]))
    effect = contrast(two(by_seed(*a), by_seed(*b)))
    for side, p in (("greater", effect.p), ("less", effect.p_against)):
        scipys = stats.ttest_rel(a, b, alternative=side)
        assert p == pytest.approx(scipys.pvalue, rel=1e-6)
    interval = stats.ttest_rel(a, b).confidence_interval(0.90)
    assert effect.lower == pytest.approx(interval.low, rel=1e-6, abs=1e-9)
    assert effect.upper == pytest.approx(interval.high, rel=1e-6, abs=1e-9)


@given(samples, samples)
def test_unpaired_agrees_with_welchs_test(a, b):
    assume(spread_out(a))
    assume(spread_out(b))
    effect = contrast(two(by_seed(*a), by_seed(*b)), paired=False)
    scipys = stats.ttest_ind(a, b, equal_var=False, alternative="greater")
    assert effect.p == pytest.approx(scipys.pvalue, rel=1e-6)
    assert effect.df == pytest.approx(scipys.df, rel=1e-6)


@given(samples, numbers)
def test_a_threshold_agrees_with_ttest_1samp(a, c):
    assume(spread_out(a))
    effect = contrast([Arm(1.0, by_seed(*a))], c)
    scipys = stats.ttest_1samp(a, c, alternative="greater")
    assert effect.p == pytest.approx(scipys.pvalue, rel=1e-6, abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_wins_agree_with_the_exact_binomial_test(k, n):
    assume(n >= 1)
    assume(k <= n)
    found = wins([1.0] * k + [-1.0] * (n - k) + [0.0] * 5)
    exact = stats.binomtest(k, n).proportion_ci(method="exact")
    assert (found.k, found.n) == (k, n), "ties count in neither"
    assert found.low == pytest.approx(exact.low, abs=1e-9)
    assert found.high == pytest.approx(exact.high, abs=1e-9)


def test_wins_of_nothing_say_nothing():
    assert wins([]) == wins([0.0, 0.0])
    assert (wins([]).n, wins([]).low, wins([]).high) == (0, 0, 1)


# Properties

arms_of_three = st.lists(
    st.tuples(
        st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0]), st.lists(numbers, min_size=4, max_size=4)
    ),
    min_size=2,
    max_size=4,
).map(lambda arms: [Arm(w, by_seed(*values)) for w, values in arms])


@given(arms_of_three, numbers, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_arms_changes_nothing(arms, c0, paired, random):
    shuffled = list(arms)
    random.shuffle(shuffled)
    a, b = (contrast(x, c0, paired=paired) for x in (arms, shuffled))
    assert b.theta == a.theta
    assert b.se == pytest.approx(a.se)
    assert b.p == pytest.approx(a.p)


@given(arms_of_three, numbers, st.booleans(), st.integers(-20, 20))
def test_the_unit_changes_no_verdict(arms, c0, paired, power):
    c = 2.0**power
    larger = [
        replace(arm, values={s: c * x for s, x in (arm.values or {}).items()}) for arm in arms
    ]
    a, b = contrast(arms, c0, paired=paired), contrast(larger, c * c0, paired=paired)
    assert (b.theta, b.se, b.df, b.p) == (c * a.theta, c * a.se, a.df, a.p)
    assert conclude(b) == conclude(a)


@given(arms_of_three, numbers, st.booleans())
def test_the_opposite_claim_has_the_opposite_verdict(arms, c0, paired):
    opposite = [replace(arm, weight=-arm.weight) for arm in arms]
    a, b = contrast(arms, c0, paired=paired), contrast(opposite, -c0, paired=paired)
    swapped = {"upheld": "contradicted", "contradicted": "upheld"}
    assert conclude(b) == swapped.get(conclude(a), "undecided")
    assert (b.p, b.p_against) == (a.p_against, a.p)
    assert (b.lower, b.upper) == (-a.upper, -a.lower)


@given(arms_of_three, numbers, st.booleans())
def test_bounds_and_p_agree(arms, c0, paired):
    effect = contrast(arms, c0, paired=paired)
    if abs(effect.p - 0.05) > 1e-9:
        assert (effect.p < 0.05) == (effect.lower > 0)
    if abs(effect.p_against - 0.05) > 1e-9:
        assert (effect.p_against < 0.05) == (effect.upper < 0)


huge = st.floats(-1e150, 1e150)


@given(st.lists(huge, min_size=1, max_size=4), st.lists(huge, min_size=1, max_size=4), huge)
@example([1e-320, 0.0], [0.0, 2e-320], 0.0)
@example([1e150, -1e150], [1e-150, 1e-150], 0.0)
def test_nothing_is_ever_nan(a, b, c0):
    for paired in (None, False):
        effect = contrast(two(by_seed(*a), by_seed(*b)), c0, paired=paired)
        found = [effect.theta, effect.se, effect.df, effect.lower, effect.p, effect.p_against]
        assert not any(math.isnan(x) for x in found if x is not None)
