"""Curves in one line, and bars of states."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.monitor.board.sparkline import BLOCKS, resample, sparkline
from retable.monitor.board.state_bar import LOOK, bar, legend, shares
from retable.monitor.state import State

finite = st.floats(allow_nan=False, allow_infinity=False)
curves = st.lists(finite, min_size=1, max_size=200)
widths = st.integers(1, 80)


@given(curves, widths)
def test_a_curve_is_blocks_and_never_wider_than_it_may_be(values, width):
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set(BLOCKS)


@given(curves, widths)
def test_the_ends_of_the_scale_are_the_lowest_and_the_highest_value(values, width):
    shown, line = resample(values, width), sparkline(values, width)
    low, high = min(shown), max(shown)
    if low == high:
        assert line == BLOCKS[3] * len(shown)
        return
    assert {line[i] for i, value in enumerate(shown) if value == low} == {BLOCKS[0]}
    assert {line[i] for i, value in enumerate(shown) if value == high} == {BLOCKS[-1]}


@given(curves)
def test_higher_values_never_have_lower_blocks(values):
    heights = [BLOCKS.index(block) for block in sparkline(values, len(values))]
    pairs = sorted(zip(values, heights, strict=True))
    assert [height for _, height in pairs] == sorted(heights)


@given(curves, widths)
def test_resampling_keeps_the_range(values, width):
    shown = resample(values, width)
    slack = 1e-12 * max(map(abs, values))
    assert min(values) - slack <= min(shown)
    assert max(shown) <= max(values) + slack


def test_known_curves():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == BLOCKS
    assert sparkline([0, 0, 7, 7, 0, 0, 7, 7], 4) == "▁█▁█"
    assert sparkline([0.25], 10) == "▄"
    assert sparkline([2.0, 2.0, 2.0], 10) == "▄▄▄"
    assert sparkline([-1e308, 1e308], 10) == "▁█"
    assert sparkline([], 10) == ""


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        sparkline([0.0, value], 10)


def test_no_width_is_refused():
    with pytest.raises(ValueError, match="width of 0"):
        sparkline([0.0], 0)


@given(st.lists(st.integers(0, 5000), max_size=9), widths)
def test_a_bar_is_divided_fairly(counts, width):
    found = shares(counts, width)
    assert sum(found) == min(sum(counts), width)
    assert all(n <= count for n, count in zip(found, counts, strict=True))
    if sum(count > 0 for count in counts) <= width:
        assert [n > 0 for n in found] == [count > 0 for count in counts]
        pairs = sorted(zip(counts, found, strict=True))
        assert [n for _, n in pairs] == sorted(found)  # more runs never have fewer blocks


def test_a_bar_has_a_block_for_each_run_where_they_fit():
    counts = {State.TODO: 2, State.DONE: 3, State.RUNNING: 1, State.FAILED: 1}
    assert bar(counts, 8).plain == "███▒×··"
    assert bar({State.DONE: 4990, State.FAILED: 1, State.TODO: 9}, 8).plain == "██████×·"


def test_every_state_can_be_told_without_colours():
    assert set(LOOK) == set(State)
    bad = {State.FAILED, State.LOST, State.DIVERGED}
    assert len({glyph for glyph, _ in LOOK.values()}) == len(State) - len(bad) + 1


def test_the_legend_names_what_there_is():
    text = legend(Counter({State.DONE: 3, State.LOST: 1, State.QUEUED: 0}))
    assert text.plain == "█ 3 done  × 1 lost"
