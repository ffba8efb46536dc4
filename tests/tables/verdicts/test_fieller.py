"""The printed ratio and Fieller's interval."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from retable.tables.results import Ratio
from retable.tables.verdicts.contrast import Arm, contrast
from retable.tables.verdicts.fieller import fieller
from support.statistics import by_seed, near

A = by_seed(15, 16, 14, 17, 15)
B = by_seed(9, 9.5, 8, 9, 8.5)
positive = st.lists(st.floats(1, 100).map(lambda x: round(x, 3)), min_size=3, max_size=8)


def test_the_specifications_value():
    ratio = fieller(A, B)
    assert ratio is not None
    assert near(ratio.value, "1.75")
    assert near(ratio.low, "1.639")
    assert near(ratio.high, "1.865")


@settings(deadline=None)  # the first call imports scipy.optimize
@given(positive, positive, st.booleans())
def test_the_ends_are_where_the_claim_is_just_not_rejected(a, b, paired):
    size = min(len(a), len(b)) if paired else None
    a = by_seed(*a[:size])
    b = by_seed(*b[:size]) if paired else {s + 100: x for s, x in enumerate(b)}
    ratio = fieller(a, b)
    assert ratio is not None
    assume(ratio.low is not None)
    assume(ratio.high - ratio.low > 1e-6)  # else a is a multiple of b
    for end in (ratio.low, ratio.high):
        effect = contrast([Arm(1.0, a), Arm(-end, b)], alpha=0.025)
        assert effect.paired == paired
        # On a nearly unbounded interval the ends are known less well.
        assert min(effect.p, effect.p_against) == pytest.approx(0.025, rel=1e-3)


@pytest.mark.parametrize("shift", [0, 100])
def test_a_denominator_that_may_be_zero_has_no_bounds(shift):
    b = {seed + shift: x for seed, x in by_seed(0.1, -0.2, 0.4).items()}
    ratio = fieller(by_seed(1.0, 2.0, 3.0), b)
    assert ratio is not None
    assert ratio.value == pytest.approx(20)
    assert (ratio.low, ratio.high) == (None, None)


def test_zeros_in_the_numerator_do_no_harm():
    ratio = fieller(by_seed(0.0, 0.0, 0.0), by_seed(1.0, 2.0, 3.0))
    assert ratio is not None
    assert ratio.value == 0
    ratio = fieller(by_seed(0.0, 1.0, 0.0), by_seed(10.0, 11.0, 10.5))
    assert ratio is not None
    assert ratio.low is not None
    assert ratio.low < 0 < ratio.value


def test_no_ratio_without_a_denominator():
    assert fieller({}, B) is None
    assert fieller(A, {}) is None
    assert fieller(A, by_seed(1.0, -1.0)) is None
    assert fieller({0: 3.0}, {0: 2.0}) == Ratio(1.5, None, None)


@pytest.mark.parametrize("shift", [0, 100])
def test_equal_runs_have_no_uncertainty(shift):
    b = {seed + shift: 2.0 for seed in range(3)}
    ratio = fieller(by_seed(3.0, 3.0, 3.0), b)
    assert ratio is not None
    assert ratio.low == pytest.approx(1.5)
    assert ratio.high == pytest.approx(1.5)


@pytest.mark.parametrize("shift", [0, 100])
def test_very_different_sizes_lose_no_digits(shift):
    b = {seed + shift: x for seed, x in B.items()}
    plain = fieller(A, b)
    scaled = fieller({s: 1e9 * x for s, x in A.items()}, {s: 1e-9 * x for s, x in b.items()})
    assert plain is not None
    assert scaled is not None
    assert scaled.low == pytest.approx(1e18 * plain.low, rel=1e-9)
    assert scaled.high == pytest.approx(1e18 * plain.high, rel=1e-9)


def test_a_negative_ratio_has_its_bounds_in_order():
    ratio = fieller({s: -x for s, x in A.items()}, B)
    assert ratio is not None
    assert ratio.low < ratio.value < ratio.high < 0
