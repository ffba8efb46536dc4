"""What a reported number says: digits, spreads, runs."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from retable.tables.spec_parts import Reported
from retable.tables.verdicts.reported import (
    column_decimals,
    decimals_of,
    last_digit,
    read,
    reported_std,
)


def reported(value: str = "1.29", **fields) -> Reported:
    if "spread" in fields:
        fields.setdefault("spread_kind", "std")
    return Reported(value=value, grade="primary", where="Table 1", **fields)


@pytest.mark.parametrize(
    ("text", "decimals"),
    [
        ("2.30", 2),
        ("120", 0),
        ("-.5", 1),
        ("5.", 0),
        ("2.2697e-07", 11),
        ("2E+03", -3),
        ("1.5e3", -2),
        ("0e400", -300),  # a number, though 10 to the power of 400 is none
    ],
)
def test_decimals_are_those_of_the_last_printed_digit(text, decimals):
    assert decimals_of(text) == decimals


@given(
    st.from_regex(
        r"[+-]?([0-9]{1,8}\.?[0-9]{0,8}|\.[0-9]{1,8})([eE][+-]?[0-9]{1,2})?", fullmatch=True
    )
)
def test_decimals_agree_with_the_decimal_library(text):
    assert decimals_of(text) == -Decimal(text).as_tuple().exponent


def test_a_column_counts_the_most_decimals_and_leaves_exponents_out():
    assert column_decimals(["1.3", "1.29", "2e-07", "2.2697e-07"]) == 2
    assert column_decimals(["2e-07"]) is None
    assert column_decimals([]) is None


@pytest.mark.parametrize(
    ("fields", "column", "h"),
    [
        ({}, None, 0.005),
        ({}, 3, 0.0005),  # 1.29 beside 1.301 is 1.290
        ({"decimals": 1}, 3, 0.05),
        ({"reading_error": 0.02}, None, 0.025),
        ({"exact": True}, None, 0.0),
        ({"value": "2.2697e-07"}, 2, 0.5e-11),
        ({"value": "250"}, None, 0.5),
    ],
)
def test_h_is_half_a_unit_of_the_last_digit_and_the_reading_error(fields, column, h):
    assert read(reported(**fields), column).h == pytest.approx(h, rel=1e-12)


def test_the_unit_of_the_last_digit_does_not_ask_whether_the_number_is_exact():
    assert last_digit(reported(exact=True)) == pytest.approx(0.01)
    assert last_digit(reported(), 3) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("kind", "ddof", "std"),
    [
        ("std", 1, 0.01),
        ("std", 0, 0.010541),
        ("std0", 1, 0.010541),
        ("std0", 0, 0.010541),
        ("sem", 1, 0.03162),
        ("sem", 0, 0.033333),
        ("ci95_z", 1, 0.01613),
        ("ci95_z", 0, 0.01701),
        ("ci95_t", 1, 0.01398),
        ("ci95_t", 0, 0.014735),
        ("unknown", 1, 0.03162),
    ],
)
def test_spreads_become_standard_deviations(kind, ddof, std):
    given_spread = reported(spread=".01", spread_kind=kind, ddof=ddof, n=10)
    assert reported_std(given_spread, 10) == pytest.approx(std, abs=1e-5)
    assert read(given_spread).std == pytest.approx(std, abs=1e-5)


def test_the_t_interval_is_that_of_scipy():
    sample = [1.0, 1.2, 0.9, 1.4]
    interval = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    half = f"{(interval.high - interval.low) / 2:.15f}"
    found = reported_std(reported(spread=half, spread_kind="ci95_t"), 4)
    assert found == pytest.approx(stats.tstd(sample), rel=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 10},
        {"spread": "0.1", "n": 1},
        {"spread": "0.1", "spread_kind": "other", "n": 10},
        {"spread": "0.1", "spread_kind": "other"},
    ],
)
def test_a_spread_that_is_none_over_runs_counts_as_none(fields):
    assert read(reported(**fields)).std is None


@pytest.mark.parametrize(("spread", "std"), [("0.00", 0.005), ("0", 0.5), ("0.0e-3", 0.00005)])
def test_a_printed_spread_of_zero_is_half_a_unit_of_its_last_digit(spread, std):
    assert read(reported(spread=spread, n=5)).std == pytest.approx(std, rel=1e-12)


@pytest.mark.parametrize(
    ("fields", "n", "assumed"),
    [
        ({"spread": "0.1"}, 3, True),
        ({}, 1, True),
        ({"spread": "0.1", "spread_kind": "other"}, 1, True),
        ({"spread": "0.1", "n": 6}, 6, False),
        ({"n": 1}, 1, False),
    ],
)
def test_runs_that_are_not_reported_are_assumed_and_said_so(fields, n, assumed):
    reading = read(reported(**fields))
    assert (reading.n, reading.n_assumed) == (n, assumed)
    assert (f"n {n} assumed" in reading.text) == assumed


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["printed to 0.01", "h = 0.005", "no spread", "n 1 assumed"]),
        ({"exact": True, "n": 4}, ["1.29, exact", "n 4"]),
        ({"reading_error": 0.1}, ["read within 0.1", "h = 0.105"]),
        ({"spread": "0.08", "n": 6}, ["± 0.08 is a standard deviation: s = 0.08", "n 6"]),
        ({"spread": "0.08", "spread_kind": "unknown"}, ["read as a standard error: s = 0.1386"]),
        ({"spread": "0.08", "spread_kind": "ci95_t", "ddof": 0}, ["t distribution (ddof 0)"]),
        ({"spread": "0.00", "n": 6}, ["counted as 0.005"]),
        ({"spread": "0.08", "n": 1}, ["± 0.08 of 1 run: not used"]),
        ({"spread": "0.08", "spread_kind": "other"}, ["± 0.08 is not over runs: not used"]),
    ],
)
def test_the_reading_is_said_in_words(fields, words):
    text = read(reported(**fields)).text
    for word in words:
        assert word in text


@given(
    st.sampled_from(["std", "std0", "sem", "ci95_z", "ci95_t", "unknown"]),
    st.sampled_from([0, 1]),
    st.integers(2, 1000),
    st.decimals(0, 1000, places=3),
)
def test_every_spread_over_runs_is_a_positive_standard_deviation(kind, ddof, n, spread):
    found = reported_std(reported(spread=str(spread), spread_kind=kind, ddof=ddof), n)
    assert found is not None
    assert found > 0
    if kind != "std0":
        smaller = reported_std(reported(spread=str(spread), spread_kind=kind, ddof=1), n)
        assert smaller is not None
        assert found >= smaller
