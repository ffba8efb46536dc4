"""The interval of a cell's difference from its reported number, and what it comes to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats

from retable.tables.spec_parts import Reported
from retable.tables.verdicts.cell import difference, verdict
from retable.tables.verdicts.reported import read
from support.statistics import R129, R827, R9748, judged, near, reading

# The specification's values


def test_welch():
    found, kind = judged(1.31, 0.05, 5, R129, 0.11)
    assert near(found.d, "0.02")
    assert near(found.se, "0.03958")
    assert near(found.df, "8.462")
    assert near(found.half, "0.0954")
    assert near(found.p, "0.714")
    assert (found.rule, kind) == ("welch", "consistent")


def test_worse():
    found, kind = judged(1.50, 0.05, 5, R129, 0.11, "min")
    assert near(found.half, "0.0954")
    assert near(found.p, "0.0007")
    assert kind == "worse"


def test_no_reported_spread():
    found, kind = judged(8.50, 0.12, 3, R827, 0.28)
    assert near(found.se, "0.13856")
    assert found.df == 2
    assert near(found.half, "0.6012")
    assert (found.rule, kind) == ("equal spread", "consistent")
    found, kind = judged(9.00, 0.30, 3, R827, 0.28)
    assert near(found.half, "1.4955")
    assert kind == "undecided"


def test_runs_without_a_spread():
    found, kind = judged(97.40, 0.10, 5, R9748, 0.16)
    assert near(found.se, "0.04690")
    assert found.df == 4
    assert near(found.half, "0.1352")
    assert kind == "consistent"


def test_a_real_difference_that_does_not_matter_is_reproduced():
    found, kind = judged(97.53, 0.04, 10, R9748, 0.16)
    assert near(found.half, "0.0363")
    assert near(found.low, "0.0137")
    assert near(found.high, "0.0863")
    assert kind == "reproduced"


def test_one_run_of_ours():
    found, kind = judged(1.40, None, 1, R129, 0.11)
    assert near(found.se, "0.08641")
    assert found.df == 5
    assert near(found.half, "0.2271")
    assert (found.rule, kind) == ("one run", "consistent")
    wide = verdict(found, 1, 100.0, "none", mean=1.40, reported=1.29)
    assert wide == "consistent", "one run never reproduces"


def test_few_runs_may_not_claim_less_spread_than_many():
    reported = Reported(
        value=".060355", spread=".00135", spread_kind="sem", n=600, exact=True,
        grade="primary", where="released results",
    )  # fmt: skip
    r = read(reported)
    assert near(r.std, "0.03307")
    found, kind = judged(0.020, 0.015, 10, r, 0.001, "min")
    assert near(found.se, "0.01054")
    assert found.df == 599
    assert near(found.half, "0.0207")
    assert (found.rule, kind) == ("reported spread", "better")
    found, _ = judged(0.060, 0.05, 10, r, 0.001)
    assert found.rule == "welch"
    assert near(found.df, "9.13")
    assert near(found.half, "0.0358")


def test_equal_runs_of_a_metric_with_a_quantum_are_no_certainty():
    r = reading(2.0)
    found, kind = judged(0.0, 0.0, 3, r, 2.0, "max", quantum=2.0)
    assert near(found.s, "0.5774")
    assert near(found.se, "0.6667")
    assert found.df == 2
    assert near(found.half, "2.868")
    assert kind == "consistent"
    found, kind = judged(0.0, 0.0, 3, r, 2.0, "max")
    assert (found.se, found.p, kind) == (0, 0, "worse")


# Against scipy


@given(
    st.floats(-5, 5),
    st.floats(0.01, 3),
    st.floats(0.01, 3),
    st.integers(2, 40),
    st.integers(2, 19),
)
def test_both_spreads_agree_with_scipys_welch_test(d, s, s_r, n, n_r):
    found = difference(d, s, n, reading(0.0, s_r, n_r))
    scipys = stats.ttest_ind_from_stats(d, s, n, 0.0, s_r, n_r, equal_var=False)
    assert found.se is not None
    assert found.d / found.se == pytest.approx(scipys.statistic, abs=1e-12)
    assert found.p == pytest.approx(scipys.pvalue, rel=1e-9)
    interval = stats.ttest_ind_from_stats(d, s, n, 0.0, s_r, n_r, equal_var=False)
    half = stats.t.ppf(0.975, found.df) * found.se
    assert found.half == pytest.approx(half, rel=1e-12)
    assert (found.half < abs(d)) == (interval.pvalue < 0.05)


def test_no_reported_spread_is_the_prediction_of_as_many_further_runs():
    """Two samples of equal variance, of which only ours tells what it is."""
    values = [1.0, 1.3, 0.8, 1.1]
    found = difference(1.05, stats.tstd(values), 4, reading(1.5, None, 50))
    assert found.se == pytest.approx(stats.tstd(values) * math.sqrt(1 / 4 + 1 / 50))
    assert found.p == pytest.approx(2 * stats.t.sf(0.45 / found.se, 3))


# Edge cases


@pytest.mark.parametrize(("n", "std", "s_r"), [(1, None, None), (0, None, 0.1), (1, 0.3, None)])
def test_without_any_spread_there_is_no_interval(n, std, s_r):
    found, kind = judged(1.0, std, n, reading(1.0, s_r, 5), 10.0)
    assert (found.rule, found.se, found.half, found.low, found.p) == ("none", *[None] * 4)
    assert kind == "undecided"


def test_a_mean_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        difference(math.nan, 0.1, 3, R129)


def test_equal_runs_without_a_quantum():
    found = difference(1.295, 0.0, 3, replace(R827, value=1.29))
    assert (found.half, found.p, found.df) == (0.005, 1.0, 2)
    kind = verdict(found, 3, 0.001, "min", mean=1.295, reported=1.29)
    assert kind == "consistent", "what the digits hide is no difference, to the last bit"


def test_the_level_moves_the_interval_and_not_p():
    usual, strict = (difference(1.31, 0.05, 5, R129, level=level) for level in (0.95, 0.99))
    assert usual.half is not None
    assert strict.half is not None
    assert strict.half > usual.half
    assert strict.p == usual.p
    assert strict.half == pytest.approx(stats.t.ppf(0.995, usual.df) * usual.se + 0.005)


@pytest.mark.parametrize(("n_r", "rule"), [(19, "welch"), (20, "reported spread")])
def test_many_runs_are_twenty(n_r, rule):
    assert difference(0.0, 0.1, 3, reading(0.0, 0.2, n_r)).rule == rule


@pytest.mark.parametrize(("n", "s"), [(20, 0.1), (3, 0.2), (3, 0.3)])
def test_as_many_runs_or_as_much_spread_of_ours_keeps_welch(n, s):
    assert difference(0.0, s, n, reading(0.0, 0.2, 20)).rule == "welch"


# Properties

sizes = st.floats(1e-3, 1e3)
cells = st.tuples(
    st.floats(-100, 100),
    sizes,
    st.integers(1, 30),
    st.builds(
        reading,
        st.floats(-100, 100),
        st.none() | sizes,
        st.integers(2, 700),
        st.just(0.0) | st.floats(1e-3, 1),
    ),
    sizes,
    st.none() | sizes,
)


@given(cells, st.integers(-30, 30), st.sampled_from(["min", "max", "none"]))
def test_the_unit_changes_no_verdict(cell, power, direction):
    """Powers of two, which leave every digit as it is."""
    mean, std, n, r, close, quantum = cell
    c = 2.0**power
    larger = replace(r, value=c * r.value, std=r.std and c * r.std, h=c * r.h)
    found, kind = judged(mean, std, n, r, close, direction, quantum)
    scaled, scaled_kind = judged(
        c * mean, c * std, n, larger, c * close, direction, quantum and c * quantum
    )
    assert scaled_kind == kind
    assert (scaled.p, scaled.df) == (found.p, found.df)
    assert scaled.half == (None if found.half is None else c * found.half)


@given(cells)
def test_the_other_direction_swaps_better_and_worse(cell):
    mean, std, n, r, close, quantum = cell
    swapped = {"better": "worse", "worse": "better"}
    low, high = (judged(mean, std, n, r, close, d, quantum)[1] for d in ("min", "max"))
    assert high == swapped.get(low, low)
    mirrored = replace(r, value=-r.value)
    assert judged(-mean, std, n, mirrored, close, "max", quantum)[1] == low


@given(cells, st.floats(0, 10))
def test_a_wider_h_never_shrinks_the_interval(cell, more):
    mean, std, n, r, close, quantum = cell
    found, kind = judged(mean, std, n, r, close, "min", quantum)
    wider, wider_kind = judged(mean, std, n, replace(r, h=r.h + more), close, "min", quantum)
    if found.half is None:
        assert wider.half is None
        return
    assert wider.half == pytest.approx(found.half + more)
    assert wider.p >= found.p
    # One within the margin may leave it and lie beyond 0 as before.
    if kind not in {"better", "worse", "reproduced"}:
        assert wider_kind not in {"better", "worse"}
    if wider_kind == "reproduced":
        assert kind == "reproduced"


@given(cells)
def test_p_and_the_interval_agree(cell):
    mean, std, n, r, close, quantum = cell
    found, _ = judged(mean, std, n, r, close, "min", quantum)
    if found.half is not None and abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (abs(found.d) > found.half)


@given(cells, st.floats(1.0, 4.0))
def test_a_wider_margin_never_takes_a_verdict_back(cell, factor):
    mean, std, n, r, close, quantum = cell
    order = ["undecided", "consistent", "reproduced"]
    narrow, wide = (judged(mean, std, n, r, m, "min", quantum)[1] for m in (close, factor * close))
    if narrow in order:
        assert order.index(wide) >= order.index(narrow)
    else:
        assert wide in {narrow, "reproduced"}


huge = st.floats(-1e150, 1e150)
positive = st.floats(0, 1e150)


@given(huge, st.none() | positive, st.integers(0, 10**6), huge, st.none() | positive,
       st.integers(2, 10**6), positive, st.none() | positive)  # fmt: skip
@example(0.0, 1e-320, 3, 0.0, 1e-322, 3, 0.0, None)
@example(1e-200, 1e-200, 3, 0.0, 1e-200, 3, 0.0, None)
@example(1e150, 1e-150, 2, -1e150, 1e-150, 2, 0.0, None)
def test_nothing_is_ever_nan(mean, std, n, value, s_r, n_r, h, quantum):
    assume(n < 2 or std is not None)
    found = difference(mean, std, n, reading(value, s_r, n_r, h), quantum=quantum)
    numbers = [found.d, found.se, found.df, found.half, found.p, found.low, found.high, found.s]
    assert not any(math.isnan(x) for x in numbers if x is not None)
    if found.p is not None:
        assert 0 <= found.p <= 1
