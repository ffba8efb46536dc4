"""Seeds that would decide, and looks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from retable.tables.results import Needed
from retable.tables.verdicts.cell import difference
from retable.tables.verdicts.contrast import Arm, contrast
from retable.tables.verdicts.distributions import t_tail_noncentral
from retable.tables.verdicts.power import (
    alphas,
    chance_settled_cell,
    chance_settled_claim,
    chance_settled_tie,
    looks,
    needed_cell,
    needed_claim,
    needed_tie,
    paper_uncertainty,
)
from support.statistics import R129, R827, R9748, near, reading

# The specification's values


@pytest.mark.parametrize(("effect", "n"), [(0.5, 27), (1.0, 8), (2.0, 4)])
def test_seeds_needed_of_claims(effect, n):
    assert needed_claim(effect, 1.0) == Needed(n, f"about {n}")
    assert needed_claim(-3 * effect, 3.0).n == n, "contradicting takes as many"


def test_seeds_needed_of_cells():
    found = needed_cell(97.40, 0.10, R9748, 0.16)
    assert (found.n, found.text) == (22, "about 22")
    found = needed_cell(1.31, 0.05, R129, 0.11)
    assert found.n is None
    assert near(found.floor, "0.0890")
    assert found.text == "no number: the paper's own uncertainty (±0.089) is too near the margin"
    found = needed_cell(1.31, 0.05, R129, 0.08)
    assert found.text == "the paper's own uncertainty (±0.089) exceeds the margin"


def test_looks_and_what_they_spend():
    at = looks(20)
    assert at == [3, 5, 10, 20]
    spent = alphas(at)
    for alpha, text in zip(spent, (".003947", ".006579", ".013158", ".026316"), strict=True):
        assert near(alpha, text)
    for alpha, n, text in zip(spent, at, ("15.87", "5.186", "3.079", "2.409"), strict=True):
        found = difference(1.0, 1.0, n, reading(0.0), level=1 - alpha)
        assert found.half is not None
        assert found.se is not None
        assert near(found.half / found.se, text)


# Looks


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, [1]),
        (2, [2]),
        (3, [3]),
        (4, [3, 4]),
        (12, [3, 5, 10, 12]),
        (80, [3, 5, 10, 20, 40, 80]),
        (700, [3, 5, 10, 20, 40, 80, 160, 320, 640, 700]),
    ],
)
def test_the_last_look_is_at_the_most_seeds(most, expected):
    assert looks(most) == expected


def test_no_looks_without_seeds():
    with pytest.raises(ValueError, match="0 seeds"):
        looks(0)


@given(st.integers(1, 10_000))
def test_looks_rise_and_spend_the_whole_level(most):
    at = looks(most)
    assert at == sorted(set(at))
    assert at[-1] == most
    assert sum(alphas(at)) == pytest.approx(0.05)
    assert alphas(at) == sorted(alphas(at))


# The noncentral t


@given(st.floats(0, 50), st.integers(1, 2000), st.floats(0, 200))
def test_the_noncentral_t_is_scipys(x, df, nc):
    assert t_tail_noncentral(x, df, nc) == pytest.approx(stats.nct.sf(x, df, nc), abs=1e-9)


def test_the_noncentral_t_far_out():
    """Where the series ends, nothing jumps; and nothing is NaN."""
    near_end, beyond = t_tail_noncentral(1e4, 7, np.array([0.9999e4, 1.0001e4]))
    assert beyond == pytest.approx(near_end, abs=1e-3)
    assert near_end < beyond
    x = np.array([0.0, 2.0, 1e6, 1e300])
    for nc in (0.0, 1e-6, 1e3, 1e6, 1e300):
        found = t_tail_noncentral(x, 999, nc)
        assert not np.isnan(found).any()
        assert ((found >= 0) & (found <= 1)).all()
    assert t_tail_noncentral(58.799233950084684, 999, 2.74e-06) == 0, "NaN in the series"


# Claims


def test_a_claim_without_effect_never_decides():
    assert needed_claim(0.0, 1.0) == Needed(None, "more than 1,000")
    assert needed_claim(0.0, 0.0).n is None
    assert needed_claim(0.1, 1.0, most=100).text == "more than 100"


@pytest.mark.parametrize(("theta", "std"), [(1.0, 0.0), (1e9, 1e-9)])
def test_a_claim_without_spread_needs_two(theta, std):
    assert needed_claim(theta, std).n == 2


def test_the_power_of_a_claim_is_what_simulation_gives():
    rng = np.random.default_rng(1)
    values = rng.normal(1.0, 1.0, (4000, 8))
    upheld = [contrast([Arm(1.0, dict(enumerate(v)))]).lower > 0 for v in values.tolist()]
    assert chance_settled_claim(1.0, 1.0, 8) == pytest.approx(np.mean(upheld), abs=0.025)
    assert chance_settled_claim(1.0, 1.0, 1) == 0


@given(st.floats(0.01, 5), st.integers(2, 100), st.floats(0.001, 0.05))
def test_more_seeds_and_a_looser_level_never_lower_a_claims_chance(effect, n, alpha):
    found = chance_settled_claim(effect, 1.0, n, alpha=alpha)
    assert 0 <= found <= 1
    assert chance_settled_claim(effect, 1.0, n + 1, alpha=alpha) >= found - 1e-9
    assert chance_settled_claim(effect, 1.0, n, alpha=0.05) >= found - 1e-9


def test_a_tie_is_decided_by_its_distance_from_the_margin():
    """No difference is what a tie is about: more seeds do decide it."""
    found = needed_tie(0.0, 1.0, 1.0)
    assert found.n is not None
    assert 8 <= found.n <= 12
    assert needed_tie(1.0, 1.0, 1.0).n is None, "at the margin nothing decides"
    assert needed_tie(2.0, 1.0, 1.0) == needed_claim(1.0, 1.0)
    assert needed_tie(-2.0, 1.0, 1.0) == needed_claim(1.0, 1.0)
    assert needed_tie(0.5, 1.0, 1.0).n > found.n
    assert needed_tie(0.0, 0.0, 1.0).n == 2
    assert chance_settled_tie(0.0, 1.0, 1.0, 10) == pytest.approx(0.80, abs=0.05)
    assert chance_settled_tie(0.0, 1.0, 1.0, 1) == 0
    assert needed_tie(0.0, 4.0, 4.0) == found


# Cells


def test_a_large_difference_needs_few_seeds():
    found = needed_cell(9.0, 0.1, R129, 0.11)
    assert found.n == 2
    assert needed_cell(1e9, 0.1, R129, 0.11).n == 2


def test_one_run_borrows_the_reported_spread_or_says_nothing():
    found = needed_cell(1.30, None, R129, 0.5)
    assert found == needed_cell(1.30, 0.08, R129, 0.5)
    nothing = needed_cell(8.3, None, R827, 0.5)
    assert (nothing.n, nothing.floor) == (None, None)
    assert "no reported spread" in nothing.text
    assert chance_settled_cell(8.3, None, R827, 0.5, 10) == 1, "unknown is not hopeless"


def test_equal_runs_settle_at_once():
    assert needed_cell(8.27, 0.0, R827, 0.28).n == 2
    assert needed_cell(8.37, 0.0, R827, 0.05).n == 2
    # A quantum is a spread: more than the margin, for a single reported run.
    assert needed_cell(8.27, 0.0, R827, 0.28, quantum=2.0).n is None


def test_the_papers_own_uncertainty():
    assert paper_uncertainty(0.05, R129) == pytest.approx(
        stats.t.ppf(0.975, 5) * 0.08 / math.sqrt(6) + 0.005
    )
    assert paper_uncertainty(0.12, R827) == pytest.approx(1.959964 * 0.12 + 0.005)
    assert paper_uncertainty(0.1, R9748) == pytest.approx(1.959964 * 0.1 / math.sqrt(50) + 0.005)
    assert paper_uncertainty(0.05, R129, 0.99) > paper_uncertainty(0.05, R129)


@settings(deadline=None)  # on a busy machine
@given(st.floats(0, 2), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(2, 40))
def test_the_interval_never_falls_below_the_papers_own_uncertainty(d, s, s_r, n_r):
    r = reading(0.0, s_r, n_r, 0.01)
    found = difference(d, s, 10**7, r)
    assert found.half == pytest.approx(paper_uncertainty(s, r), rel=0.01)
    needed = needed_cell(d, s, r, 0.5)
    assert needed.floor == paper_uncertainty(s, r)
    if needed.n is not None:
        assert chance_settled_cell(d, s, r, 0.5, needed.n) >= 0.8 - 1e-9


def test_more_than_a_thousand_is_no_fault_of_the_paper():
    exact = reading(1.0, None, 10**6)
    found = needed_cell(1.0, 1.0, exact, 0.05)
    assert (found.n, found.text) == (None, "more than 1,000")
    assert needed_cell(1.0, 1.0, exact, 0.05, most=10_000).n > 1000


@pytest.mark.parametrize("d", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("r", [reading(0.0, 1.0, 600), reading(0.0, None, 600)])
def test_the_chance_of_a_cell_is_what_simulation_gives(d, r):
    """With the reported number as it is, and many reported runs, so that s alone is random."""
    rng = np.random.default_rng(2)
    margin, n, settled = 2.0, 10, 0
    values = rng.normal(d, 1.0, (3000, n))
    for mean, std in zip(values.mean(axis=1), values.std(axis=1, ddof=1), strict=True):
        found = difference(float(mean), float(std), n, r)
        assert found.half is not None
        size = abs(found.d)
        settled += size + found.half <= margin or size > found.half
    chance = chance_settled_cell(d, 1.0, r, margin, n)
    assert chance == pytest.approx(settled / 3000, abs=0.06)


def test_a_stricter_level_needs_more():
    loose, strict = (needed_cell(97.40, 0.10, R9748, 0.16, level=lv).n for lv in (0.95, 0.99))
    assert loose is not None
    assert strict is not None
    assert strict > loose
    chances = [chance_settled_cell(97.4, 0.1, R9748, 0.16, 10, level=lv) for lv in (0.95, 0.99)]
    assert chances[1] < chances[0]


@given(st.integers(-20, 20))
def test_the_unit_changes_no_number_of_seeds(power):
    c = 2.0**power
    r = replace(R9748, value=c * R9748.value, h=c * R9748.h)
    found = needed_cell(c * 97.40, c * 0.10, r, c * 0.16, quantum=c * 0.01)
    assert found.n == needed_cell(97.40, 0.10, R9748, 0.16, quantum=0.01).n
