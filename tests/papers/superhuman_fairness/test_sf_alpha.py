"""The closed form of the inverse margins against the algorithm's words and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retable.papers.superhuman_fairness.alpha import closed_form

LOSS = st.floats(0.0, 1.0).map(lambda v: round(v, 3))
PAIRS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*(hnp.arrays(np.float64, (n, 4), elements=LOSS) for _ in range(2)))
)


def in_words(f, ft, lam, cap):
    """One measure, one reference after the other."""
    alpha = cap
    order = sorted(range(len(ft)), key=lambda j: ft[j])
    seen = []
    for j in order:
        seen.append(ft[j])
        if ft[j] > f[j]:
            alpha = min(cap, 1 / (ft[j] - f[j]))
        if f[j] + lam <= np.mean(seen):
            break
    return alpha


def common(f, ft, **options):
    ft = np.array(ft)[:, None]
    return float(closed_form(np.full(ft.shape, f), ft, **options)[0])


def test_the_worked_example():
    assert common(0.15, [0.1, 0.2, 0.3, 0.4]) == pytest.approx(1 / 0.15, rel=1e-12)
    assert common(0.15, [0.1]) == 100.0
    assert common(0.15, [0.1, 0.2]) == pytest.approx(20.0, rel=1e-12)


def test_the_order_of_the_references_does_not_matter():
    assert common(0.15, [0.4, 0.2, 0.1, 0.3]) == common(0.15, [0.1, 0.2, 0.3, 0.4])


def test_the_edge_cases():
    assert common(0.2, [0.2, 0.2]) == 100.0  # equal losses: no candidate, no division by zero
    assert common(0.9, [0.1, 0.2]) == 100.0  # we are worse than all
    assert common(0.1, [0.5, 0.9]) == pytest.approx(1 / 0.4)  # better than all: the best decides
    assert common(0.1, [0.1005, 0.1005]) == 100.0  # capped
    assert common(0.1, [0.1005, 0.1005], cap=1e6) == pytest.approx(2000.0)


def test_each_reference_is_compared_with_its_own_sample():
    ours, reference = np.array([[0.5], [0.1]]), np.array([[0.2], [0.3]])
    # m = 1: 0.2 < 0.5, nothing; 0.501 > 0.2. m = 2: 1 / 0.2, and 0.101 <= 0.25 ends.
    assert closed_form(ours, reference)[0] == pytest.approx(5.0)


@pytest.mark.slow
@given(PAIRS, st.sampled_from([0.0, 0.001, 0.05]))
@settings(max_examples=300, deadline=None)
def test_all_measures_at_once_are_the_loop_over_each(pair, lam):
    ours, reference = pair
    expected = [in_words(ours[:, k], reference[:, k], lam, 100.0) for k in range(4)]
    np.testing.assert_allclose(closed_form(ours, reference, lam=lam), expected, rtol=1e-12)


@pytest.mark.slow
@given(st.lists(LOSS, min_size=1, max_size=8), LOSS)
@settings(max_examples=300, deadline=None)
def test_it_is_the_minimum_that_brute_force_finds(reference, f):
    """Sum of the hinges for one f: convex and piecewise linear, the minimum is at a kink."""
    ft = np.array(reference)
    assume(f <= ft.mean() and (ft > f).any())

    def objective(alpha):
        return np.maximum(np.multiply.outer(alpha, f - ft) + 1, 0).sum(axis=-1)

    found = common(f, ft, lam=0.0, cap=1e6)
    kinks = 1 / (ft[ft > f] - f)
    grid = np.concatenate([[0.0], kinks, np.linspace(0, 2 * kinks.max(), 2001)])
    assert objective(np.array(found)) <= objective(grid).min() + 1e-9


def test_the_penalty_moves_the_minimum_to_an_earlier_kink():
    """``sum_j [alpha (f - ft_j) + 1]_+ + lam m alpha`` with m references short of the margin."""
    ft, f, lam = np.array([0.1, 0.2, 0.3, 0.4]), 0.15, 0.001
    found = common(f, ft, lam=lam)
    grid = np.linspace(0, 30, 300_001)
    active = (ft < f + 1 / np.maximum(grid, 1e-12)[:, None]).sum(axis=1)
    value = np.maximum(np.multiply.outer(grid, f - ft) + 1, 0).sum(axis=1) + lam * active * grid
    assert grid[value.argmin()] == pytest.approx(found, abs=2e-3)


@pytest.mark.parametrize(("ours", "reference"), [((3, 4), (2, 4)), ((0, 4), (0, 4)), ((4,), (4,))])
def test_losses_that_do_not_belong_together_are_refused(ours, reference):
    with pytest.raises(ValueError, match="losses"):
        closed_form(np.zeros(ours), np.zeros(reference))
