"""The paper's own tests of claims, on numbers computed by hand."""

from __future__ import annotations

import pytest

from retable.papers.subtuning.claims import less_sensitive, mostly_b1


def test_less_sensitive_is_the_smallest_spread_of_the_others_less_that_of_subtuning():
    values = {
        ("subtuning", "blur"): {0: 0.80, 1: 0.70},
        ("subtuning", "noise"): {0: 0.70, 1: 0.70, 2: 0.1},
        ("ft", "blur"): {0: 0.80, 1: 0.90},
        ("ft", "noise"): {0: 0.50, 1: 0.80},
        ("lp", "blur"): {0: 0.72, 1: 0.99},
        ("lp", "noise"): {0: 0.70, 1: 0.19},
    }
    root = 2**0.5  # of two numbers the standard deviation is their distance over it
    assert less_sensitive(values) == pytest.approx({0: (0.02 - 0.10) / root, 1: 0.10 / root})


@pytest.mark.parametrize(
    ("picks", "wanted"),
    [([1, 1, 7, 3], 0.25), ([7, 7, 1, 3], -0.25), ([1, 1, 1, 1], 1.0), ([1, 1, 2, 2], 0.0)],
)
def test_mostly_b1_is_its_share_less_that_of_the_most_frequent_other(picks, wanted):
    values = {("second", f"c{i}"): {5: float(block)} for i, block in enumerate(picks)}
    assert mostly_b1(values) == {5: pytest.approx(wanted)}
