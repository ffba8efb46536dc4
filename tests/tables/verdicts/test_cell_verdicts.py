"""Margin and verdict of a cell, and the steps that lead there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from retable.tables.results import Difference, Margin
from retable.tables.verdicts.cell import (
    default_tolerance,
    deterministic_difference,
    margin_of,
    verdict,
)
from retable.tables.verdicts.derivation import steps
from retable.util.errors import UserError
from support.statistics import R129, R827, R9748, judged, near, reading

# Verdicts


@pytest.mark.parametrize(
    ("d", "half", "n", "margin", "kind"),
    [
        (0.1, 0.2, 3, 0.3001, "reproduced"),
        (0.25, 0.04, 3, 0.3, "reproduced"),  # though the interval excludes 0
        (0.1, 0.2, 1, 0.3001, "consistent"),
        (0.1, 0.2, 3, 0.25, "consistent"),
        (0.1, 0.2, 3, 0.05, "undecided"),
        (0.1, 0.09, 3, 0.15, "higher"),
        (-0.1, 0.09, 3, 0.15, "lower"),
    ],
)
def test_the_first_line_that_applies(d, half, n, margin, kind):
    found = Difference(d, 0.0, "welch", half, 5.0, half, 0.5)
    assert verdict(found, n, margin, "none", mean=1 + d, reported=1.0) == kind


@pytest.mark.parametrize(
    ("mean", "direction", "kind"),
    [(1.5, "min", "worse"), (1.5, "max", "better"), (1.1, "min", "better"), (1.1, "max", "worse"),
     (1.5, "none", "higher"), (1.1, "none", "lower")],
)  # fmt: skip
def test_better_and_worse_follow_the_direction(mean, direction, kind):
    assert judged(mean, 0.01, 5, reading(1.3, 0.01, 5), 0.1, direction)[1] == kind


@pytest.mark.parametrize(
    ("mean", "reported", "kind"),
    [(52.0, 56.0, "better"), (48.0, 44.0, "better"), (44.0, 48.0, "worse"), (56.0, 45.0, "worse"),
     (51.0, 56.0, "better"), (49.0, 51.0, "lower"), (51.0, 49.0, "higher")],
)  # fmt: skip
def test_towards_an_ideal_nearer_is_better(mean, reported, kind):
    found, found_kind = judged(mean, 0.01, 5, reading(reported, 0.01, 5), 0.1, ideal=50.0)
    assert found.d == mean - reported, "judged in the printed unit"
    assert found_kind == kind


def test_close_is_within_the_margin_to_the_last_bit():
    """Shares move in steps: 0.3 away is within 0.3, though 1.3 - 1 is a little more."""
    assert 1.3 - 1.0 > 0.3
    assert judged(1.3, 0.5, 3, reading(1.0), 0.3)[1] == "consistent"


# Deterministic cells


@pytest.mark.parametrize(
    ("mean", "tolerance", "kind"),
    [
        (1.2959, None, "reproduced"),
        (1.2961, None, "worse"),
        (1.2839, None, "better"),
        (1.29, 0.0, "reproduced"),
        (1.2900001, 0.0, "worse"),
        (1.8, 0.6, "reproduced"),
    ],
)
def test_deterministic_cells_have_a_tolerance_and_no_seeds(mean, tolerance, kind):
    r = reading(1.29, None, 1, 0.005)
    tolerance = default_tolerance(r, 0.01) if tolerance is None else tolerance
    found, same = deterministic_difference(mean, r, tolerance)
    assert same == (kind == "reproduced")
    assert verdict(found, 1, 99.0, "min", mean=mean, reported=1.29) == kind
    assert (found.p, found.half) == (1.0 if same else 0.0, tolerance)


def test_per_cent_of_a_share_is_the_number_itself():
    mean = 100 * 0.29
    assert mean != 29
    assert deterministic_difference(mean, reading(29.0), 0.0)[1]


def test_what_a_plot_hides_is_tolerated():
    assert default_tolerance(reading(5.0, h=0.5), 1.0) == pytest.approx(0.6)
    assert default_tolerance(reading(5.0, h=2.5), 1.0) == pytest.approx(2.6)
    assert default_tolerance(reading(5.0, h=0.0), 1.0) == pytest.approx(0.6)


# Margins


def margin(value=10.0, h=0.0, **fields):
    return margin_of(reading(value, h=h), where="table t, row a, column b", **fields)


def test_margins_in_their_order():
    given = [(None, "cell"), (0.3, "column"), (0.4, "metric")]
    sources = {
        "given": given, "n_test": 50, "scale": 100.0, "stds": [0.1, None, 0.7, 0.2],
        "positive": True,
    }  # fmt: skip
    assert margin(**sources) == Margin(0.3, "column")
    del sources["given"]
    assert margin(**sources).value == pytest.approx(math.sqrt(10 * 90 / 50))
    del sources["n_test"]
    assert margin(**sources) == Margin(0.2, "median reported standard deviation of the column")
    del sources["stds"]
    assert margin(**sources) == Margin(0.5, "5 % of the reported value")
    assert margin(-10.0, positive=True).value == 0.5
    del sources["positive"]
    with pytest.raises(UserError, match=r"table t, row a, column b: .*set a margin"):
        margin(**sources)


def test_a_positive_number_that_is_zero_has_no_margin_of_its_own():
    with pytest.raises(UserError, match="set a margin"):
        margin(0.0, 0.005, positive=True)


@pytest.mark.parametrize(
    ("value", "quantum", "expected"), [(0.0, None, 2.0), (100.0, None, 2.0), (0.0, 5.0, 5.0)]
)
def test_a_proportion_moves_by_a_quantum_at_least(value, quantum, expected):
    assert margin(value, n_test=50, scale=100.0, quantum=quantum).value == expected


def test_what_is_no_proportion_is_refused():
    with pytest.raises(UserError, match="n_test: 10 is not a proportion"):
        margin(n_test=50)


def test_defaults_are_raised_to_2h_and_given_ones_warned_about():
    raised = margin(10.0, 0.5, stds=[0.1])
    assert (raised.value, raised.origin[-12:]) == (1.0, "raised to 2h")
    low = margin(10.0, 0.5, given=[(0.1, "metric")])
    assert low.value == 0.1
    assert low.warning is not None
    assert "'reproduced' cannot be reached" in low.warning
    assert margin(10.0, 0.5, given=[(0.5, "metric")]).warning is None


@pytest.mark.parametrize(
    ("value", "n_test", "margin"), [(1.29, 10_000, "0.1128"), (42.0, 50, "6.98")]
)
def test_the_binomial_margin(value, n_test, margin):
    found = margin_of(reading(value), where="t", n_test=n_test, scale=100.0)
    assert near(found.value, margin)
    share = margin_of(reading(value / 100), where="t", n_test=n_test)
    assert share.value == pytest.approx(found.value / 100)


# The steps


def test_the_steps_put_the_numbers_in():
    found, kind = judged(1.31, 0.05, 5, R129, 0.11)
    close = Margin(0.11, "given for the metric")
    text = "\n".join(steps(1.31, 0.05, 5, replace(R129, text="1.29 ± 0.08"), found, close, kind))
    assert text == (
        "reported: 1.29 ± 0.08\n"
        "d = m − r = 1.31 − 1.29 = 0.02\n"
        "se = √(s²/n + s_r²/n_r) = √(0.05²/5 + 0.08²/6) = 0.03958 (Welch, df 8.462)\n"
        "H = t(0.975, 8.462) se + h = 2.284 × 0.03958 + 0.005 = 0.09541\n"
        "95 % interval [d − H, d + H] = [−0.07541, 0.1154]\n"
        "p = 2 t.sf(max(|d| − h, 0)/se, df) = 0.714\n"
        "margin 0.11: given for the metric\n"
        "consistent: the interval contains 0 and |d| = 0.02 ≤ 0.11"
    )


@pytest.mark.parametrize(
    ("mean", "std", "n", "r", "close", "words"),
    [
        (97.53, 0.04, 10, R9748, 0.16, ["se = s √(1/n + 1/n_r) = 0.04 × √(1/10 + 1/50)",
         "reproduced: n ≥ 2 and |d| + H = 0.08635 < margin 0.16"]),
        (1.4, None, 1, R129, 0.11, ["se = s_r √(1/n + 1/n_r) = 0.08 × √(1/1 + 1/6) = 0.08641",
         "one run of ours"]),
        (1.4, None, 1, R827, 0.11, ["no interval", "undecided: there is no interval"]),
        (1.1, 0.05, 5, reading(1.29, 0.08, 60), 0.01, ["of fewer runs than 60", "excludes 0",
         "worse: "]),
        (0.0, 0.0, 3, reading(2.0), 2.0, ["s = max(0, quantum/√12) = 0.5774"]),
        (9.0, 0.3, 3, R827, 0.28, ["undecided: the interval contains 0 and |d| = 0.73 > 0.28"]),
    ],
)  # fmt: skip
def test_every_rule_has_its_steps(mean, std, n, r, close, words):
    found, kind = judged(mean, std, n, r, close, "max", quantum=2.0 if std == 0 else None)
    lines = "\n".join(steps(mean, std, n, r, found, Margin(close, "given"), kind))
    for word in words:
        assert word in lines


def test_a_deterministic_cell_has_its_steps():
    found, _ = deterministic_difference(1.2961, R827, 0.006)
    r = replace(R827, value=1.29)
    found, _ = deterministic_difference(1.2961, r, 0.006)
    lines = steps(1.2961, None, 1, r, found, Margin(0.006, "0.6 units"), "worse")
    assert lines[2:] == ["tolerance 0.006: 0.6 units", "worse: |d| = 0.0061 > 0.006"]
