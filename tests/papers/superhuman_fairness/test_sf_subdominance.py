"""Subdominance, the shares dominated, and the support vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retable.papers.superhuman_fairness.subdominance import (
    gamma_joint,
    gamma_per_measure,
    subdominance,
    support,
)

LOSS = st.floats(0.0, 1.0)
ROWS = hnp.arrays(np.float64, (6, 4), elements=LOSS)
SLOPES = hnp.arrays(np.float64, (4,), elements=st.floats(0.0, 100.0))


def one(f, ft, alpha, kind="absolute"):
    return float(subdominance(np.array([[f]]), np.array([[ft]]), np.array([alpha]), kind)[0, 0])


def test_the_closed_forms():
    assert one(0.3, 0.4, 2.0) == pytest.approx(0.8, abs=1e-15)
    assert one(0.4, 0.4, 7.0) == 1.0
    assert one(0.25, 0.75, 2.0) == 0.0  # better by the margin
    assert one(0.2, 0.75, 2.0) == 0.0
    assert one(0.9, 0.1, 0.0) == 1.0


def test_relative_divides_by_the_references_loss():
    assert one(0.3, 0.4, 2.0, "relative") == pytest.approx(0.5, abs=1e-15)
    assert one(0.3, 1.0, 2.0, "relative") == one(0.3, 1.0, 2.0)
    assert np.isfinite(one(0.3, 0.0, 2.0, "relative"))


@given(ROWS, ROWS, SLOPES)
@settings(max_examples=100, deadline=None)
def test_it_bounds_not_being_dominated_whatever_the_slope(ours, reference, alpha):
    for kind in ("absolute", "relative"):
        assert (subdominance(ours, reference, alpha, kind) >= (ours > reference)).all()


@given(ROWS, ROWS, SLOPES, st.floats(0.0, 0.5))
@settings(max_examples=100, deadline=None)
def test_it_does_not_fall_where_our_loss_rises(ours, reference, alpha, more):
    before = subdominance(ours, reference, alpha)
    assert (subdominance(ours + more, reference, alpha) >= before).all()


def test_a_negative_slope_is_refused():
    with pytest.raises(ValueError, match="an inverse margin is negative"):
        one(0.1, 0.2, -1.0)


def test_shares_per_measure_and_joint_are_different_things():
    reference = np.array([[0.2, 0.2], [0.1, 0.3]])
    ours = np.array([0.15, 0.25])
    assert gamma_per_measure(ours, reference).tolist() == [0.5, 0.5]
    assert gamma_joint(ours, reference) == 0.0
    assert gamma_joint(np.array([0.1, 0.2]), reference) == 1.0


def test_a_tie_counts_as_dominated():
    reference = np.array([[0.2, 0.2]])
    assert gamma_joint(np.array([0.2, 0.2]), reference) == 1.0
    assert gamma_joint(np.array([0.2, np.nextafter(0.2, 1)]), reference) == 0.0


@given(ROWS, hnp.arrays(np.float64, (4,), elements=LOSS))
@settings(max_examples=100, deadline=None)
def test_the_joint_share_is_at_most_the_least_of_the_others(reference, ours):
    assert gamma_joint(ours, reference) <= gamma_per_measure(ours, reference).min() + 1e-15


def test_support_vectors_are_the_references_not_beaten_by_the_margin():
    parts = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.0], [0.2, 0.3]])
    assert support(parts).tolist() == [False, True, False, True]


@given(ROWS, ROWS, SLOPES)
@settings(max_examples=100, deadline=None)
def test_the_bound_of_the_theory_holds_on_the_references_themselves(ours, reference, alpha):
    """What is no support vector is dominated: the share of these is at most the joint gamma."""
    parts = subdominance(ours, reference, alpha)
    assert 1 - support(parts).mean() <= gamma_joint(ours, reference) + 1e-12
