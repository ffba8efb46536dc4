"""What holds for every claim, whatever the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.tables.verdicts.claims import judge_claim
from support.judge import spec_of, table_of

ORDERING = {"id": "C1", "kind": "ordering", "better": "low", "than": "high"}


def both(claim, low, high):
    spec = spec_of(["low", "high"], claims=[claim])
    return judge_claim(table_of(spec, {"low": {"x": low}, "high": {"x": high}}), spec.claims[0])


@given(
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6),
    st.floats(0.01, 100),
)
def test_units_change_no_verdict(a, b, factor):
    before = both(ORDERING, a, b)
    after = both(ORDERING, [factor * x for x in a], [factor * x for x in b])
    assert (before.verdict == after.verdict) or before.p == pytest.approx(0.05, abs=1e-6)


@given(
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6),
)
def test_a_claim_and_its_opposite_are_never_both_upheld(a, b):
    one = both(ORDERING, a, b).verdict
    other = both({**ORDERING, "better": "high", "than": "low"}, a, b).verdict
    opposite = {"upheld": "contradicted", "contradicted": "upheld", "undecided": "undecided"}
    assert other == opposite[one]
