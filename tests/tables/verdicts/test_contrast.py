"""Claims: weighted sums of cells."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from retable.tables.verdicts.cell import difference
from retable.tables.verdicts.contrast import (
    Arm,
    conclude,
    contrast,
    is_heavy,
    spread_effect,
    sums,
    tie,
    trend_weights,
    wins,
)
from support.statistics import by_seed, near, reading, two

A = by_seed(2.1, 1.9, 2.4)
B = by_seed(1.5, 1.6, 1.7)


# The specification's values


def test_ordering_paired():
    effect = contrast(two(A, B))
    assert effect.paired
    assert near(effect.theta / effect.se, "4.438")
    assert effect.df == 2
    assert near(effect.p, "0.0236")
    assert near(effect.lower, "0.1824")
    assert conclude(effect) == "upheld"


def test_ordering_unpaired():
    effect = contrast(two(A, B), paired=False)
    assert not effect.paired
    assert near(effect.theta / effect.se, "3.411")
    assert near(effect.df, "2.616")
    assert near(effect.p, "0.0259")


@pytest.mark.parametrize(
    ("factor", "p", "verdict"),
    [(1.5, "0.0016", "upheld"), (1.667, "0.0533", "undecided"), (2.0, "0.9979", "contradicted")],
)
def test_ratio_at_least(factor, p, verdict):
    effect = contrast(two(by_seed(15, 16, 14, 17, 15), by_seed(9, 9.5, 8, 9, 8.5), factor))
    assert near(effect.p, p)
    assert conclude(effect) == verdict


def test_trend():
    seeds = [(1, 2, 2.5, 4), (1.2, 1.8, 3, 3.5), (0.8, 2.2, 2.6, 3.9)]
    points = [by_seed(*values) for values in zip(*seeds, strict=True)]
    weights = trend_weights([0, 1, 2, 3])
    arms = [Arm(w, values) for w, values in zip(weights, points, strict=True)]
    found = list(sums(arms).values())
    assert [round(x, 9) for x in found] == [4.75, 4.05, 4.85]
    effect = contrast(arms)
    assert near(effect.theta / effect.se, "18.08")
    assert near(effect.p, "0.0015")
    unpaired = contrast(arms, paired=False)
    assert near(unpaired.se, "0.3028")
    assert near(unpaired.df, "4.540")


@pytest.mark.parametrize(("margin", "verdict"), [(0.15, "upheld"), (0.14, "undecided")])
def test_tie(margin, verdict):
    effect, found = tie([Arm(1.0, by_seed(0.1, -0.2, 0.05, 0, -0.1))], margin)
    assert near(effect.lower, "-0.1448")
    assert near(effect.upper, "0.0848")
    assert found == verdict
    assert (effect.p < 0.05) == (verdict == "upheld")


def test_wins_of_three():
    found = wins([0.1, 0.2, 0.3])
    assert (found.k, found.n) == (3, 3)
    assert near(found.low, "0.2924")
    assert found.high == 1


# Seeds


def test_pairs_are_made_by_seed_and_not_by_place():
    b = {2: 1.7, 0: 1.5, 1: 1.6}
    assert contrast(two(A, b)) == contrast(two(A, B))
    assert list(sums(two(A, b))) == [0, 1, 2]


@pytest.mark.parametrize("b", [by_seed(1.5, 1.6), {5: 1.5, 6: 1.6, 7: 1.7}])
def test_other_seeds_are_not_paired(b):
    effect = contrast(two(A, b))
    assert not effect.paired
    assert effect.n == len(b)


def test_pairing_by_request_takes_the_common_seeds():
    effect = contrast(two(A, {1: 1.6, 2: 1.7, 9: 5.0}), paired=True)
    assert (effect.paired, effect.n) == (True, 2)
    assert effect.theta == pytest.approx((0.3 + 0.7) / 2)
    assert contrast(two(A, {2: 1.7}), paired=True).lower is None
    with pytest.raises(ValueError, match="share no seed"):
        contrast(two(A, {9: 1.0}), paired=True)


@pytest.mark.parametrize(
    "values", [two({0: 2.0}, {0: 1.0}), two(A, {0: 1.0}), [Arm(1.0, {4: 1.0})]]
)
def test_one_run_decides_nothing(values):
    effect = contrast(values)
    assert (effect.n, effect.se, effect.lower, effect.p) == (1, None, None, None)
    assert conclude(effect) == "undecided"
    assert tie(values, 100.0)[1] == "undecided"


def test_an_arm_is_one_thing_and_not_empty():
    for fields in ({}, {"values": {}}, {"values": A, "quoted": reading(1.0)}):
        with pytest.raises(ValueError, match="arm"):
            Arm(1.0, **fields)


# Deterministic cells, equal runs, quanta


@pytest.mark.parametrize(
    ("a", "verdict"), [(3.0, "upheld"), (1.0, "contradicted"), (2.0, "undecided")]
)
def test_deterministic_cells_need_one_run(a, verdict):
    effect = contrast(two({0: a}, {0: 2.0}), deterministic=True)
    assert (effect.se, effect.df, effect.lower) == (0, None, a - 2)
    assert conclude(effect) == verdict
    assert effect.p == (0.0 if verdict == "upheld" else 1.0)
    assert tie(two({0: a}, {0: 2.0}), 1.0, deterministic=True)[1] == "upheld"
    assert tie(two({0: a + 7}, {0: 2.0}), 1.0, deterministic=True)[1] == "contradicted"


def test_rounding_decides_nothing():
    """0.3 - 3 x 0.1 is not 0 in floating point."""
    a, b = by_seed(0.3, 0.3, 0.3), by_seed(0.1, 0.1, 0.1)
    assert 0.3 - 3 * 0.1 != 0
    effect = contrast(two(a, b, 3.0))
    assert (effect.theta, effect.p, conclude(effect)) == (0, 1, "undecided")
    assert wins(list(sums(two(a, b, 3.0)).values())).n == 0


def test_equal_differences_are_no_certainty_where_there_is_a_quantum():
    a, b = by_seed(4.0, 6.0, 8.0), by_seed(2.0, 4.0, 6.0)
    assert contrast(two(a, b)).p == 0
    effect = contrast(two(a, b), quantum=2.0)
    assert effect.std == pytest.approx(math.sqrt(2) * 2 / math.sqrt(12))
    c = by_seed(4.0, 4.0, 4.0)
    unpaired = contrast([Arm(3.0, c), Arm(-4.0, c)], quantum=2.0, paired=False)
    assert unpaired.se == pytest.approx(5 * 2 / math.sqrt(12) / math.sqrt(3))


# Quoted numbers


@pytest.mark.parametrize(
    ("ours", "theirs", "rule"),
    [
        (A, reading(1.6, 0.1, 6, 0.05), "welch"),
        (A, reading(1.6, 0.9, 50, 0.05), "reported spread"),
        (A, reading(1.6, None, 4, 0.05), "equal spread"),
        ({0: 2.0}, reading(1.6, 0.1, 6, 0.05), "one run"),
    ],
)
def test_a_quoted_number_enters_as_in_a_cell(ours, theirs, rule):
    effect = contrast([Arm(1.0, ours), Arm(-1.0, None, theirs)], alpha=0.025)
    mean = sum(ours.values()) / len(ours)
    cell = difference(mean, Arm(1.0, ours).std, len(ours), theirs)
    assert cell.rule == rule
    assert effect.lower == pytest.approx(cell.low)
    assert effect.upper == pytest.approx(cell.high)
    assert 2 * effect.p == pytest.approx(cell.p)
    assert effect.df == pytest.approx(cell.df)
    assert effect.h == 0.05


def test_a_quoted_numbers_h_counts_by_its_weight():
    exact, printed = (reading(1.6, 0.1, 6, h) for h in (0.0, 0.05))
    narrow, wide = (contrast([Arm(1.0, A), Arm(-3.0, None, r)]) for r in (exact, printed))
    assert wide.lower == pytest.approx(narrow.lower - 0.15)
    assert wide.upper == pytest.approx(narrow.upper + 0.15)
    assert wide.p > narrow.p


def test_quoted_numbers_alone_have_no_runs_of_ours():
    effect = contrast([Arm(1.0, None, reading(9.0, 0.1, 6)), Arm(-1.0, None, reading(1.0, 0.1, 6))])
    assert (effect.n, conclude(effect)) == (0, "undecided")
    assert contrast([Arm(1.0, None, reading(9.0))]).se is None
    with pytest.raises(ValueError, match="quoted"):
        sums([Arm(1.0, A), Arm(-1.0, None, reading(1.0))])


def test_a_quoted_number_without_spread_takes_that_of_all_arms():
    arms = [Arm(1.0, A), Arm(1.0, B), Arm(-2.0, None, reading(1.0, None, 1))]
    va, vb = (stats.tvar(list(v.values())) for v in (A, B))
    assert contrast(arms).se == pytest.approx(math.sqrt(va / 3 + vb / 3 + 4 * (va + vb) / 2))


# Heavy tails, ties, spreads


@pytest.mark.parametrize(
    ("numbers", "heavy"),
    [
        ((1.0, 0.51, None, None), True),
        ((1.0, 0.5, None, None), False),
        ((1.0, 0.1, 2.0, 1.1), True),
        ((None, None, 2.0, 1.0), False),
        ((1.0, None, None, 1.0), False),
        ((0.0, 1.0, -1.0, 3.0), False),
    ],
)
def test_tails_are_heavy_from_half_the_mean(numbers, heavy):
    assert is_heavy(*numbers) == heavy


def test_heavy_tails_give_each_arm_the_reported_spread_at_least():
    effect = contrast(two(A, B), least_std=[0.9, 0.001])
    assert not effect.paired
    assert effect.se == pytest.approx(math.sqrt(0.9**2 / 3 + stats.tvar(list(B.values())) / 3))
    assert contrast(two(A, B), least_std=[None, None]) == contrast(two(A, B), paired=False)


def test_a_tie_wholly_outside_is_contradicted():
    values = by_seed(1.0, 1.1, 0.9, 1.05)
    for weight in (1.0, -1.0):
        effect, verdict = tie([Arm(weight, values)], 0.5)
        assert verdict == "contradicted"
        assert effect.p > 0.95
        assert effect.p_against < 0.05


@pytest.mark.parametrize(("n", "verdict"), [(9, "undecided"), (10, "upheld")])
def test_spreads_are_compared_from_ten_runs_on(n, verdict):
    narrow, wide = ([s * x for x in range(n)] for s in (1.0, 10.0))
    effect = spread_effect(narrow, wide)
    assert conclude(effect) == verdict
    assert effect.theta > 0
    if n == 10:
        assert conclude(spread_effect(wide, narrow)) == "contradicted"
        scipys = stats.ttest_ind(
            [abs(x - 45) for x in wide], [abs(x - 4.5) for x in narrow], equal_var=False
        )
        assert effect.p == pytest.approx(scipys.pvalue / 2)
