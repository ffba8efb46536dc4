"""Early stopping as the authors' loop does it."""

from __future__ import annotations

import pytest

from retable.papers.superhuman_fairness.stopping import Stopping


def stop_at(sums):
    """Number of the iteration that stops, from 1; None where none does."""
    state = Stopping()
    for number, value in enumerate(sums, start=1):
        state = state.seen(value)
        if state.stops:
            return number
    return None


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([3.0] * 30, None),
        ([3 - 0.1 * k for k in range(10)], None),  # the first ten do not count
        ([3 - 0.1 * k for k in range(30)], 13),
        ([3.0] * 10 + [2.9, 2.8, 2.7], 13),
        ([3.0] * 10 + [2.9, 2.8, 2.8, 2.7, 2.6], None),  # a tie is no fall
        ([3.0] * 10 + [2.9, 2.8, 2.8, 2.7, 2.6, 2.5], 16),
        ([3.0] * 10 + [2.9, 3.5, 3.4, 3.3, 3.2], 15),  # below the one before, not below the best
    ],
)
def test_it_stops_after_three_falls_in_a_row_from_the_eleventh_on(sums, expected):
    assert stop_at(sums) == expected


def test_four_ones_and_then_less_do_not_stop():
    """The authors' second rule compares with shares that stay 0, so it never fires."""
    assert stop_at([4.0, 3.9, 4.0, 3.8]) is None
