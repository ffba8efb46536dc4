"""What the rules do, over many repetitions: coverage, verdicts, errors.

The numbers are the specification's, in per cent. Seeds of the random numbers are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from retable.tables.results import Reading
from retable.tables.verdicts.cell import difference, verdict
from retable.tables.verdicts.contrast import Arm, conclude, contrast
from retable.tables.verdicts.multiplicity import all_of, holm
from retable.tables.verdicts.power import HOPELESS, alphas, chance_settled_cell, looks
from support.simulation import (
    KINDS,
    Sample,
    coverage,
    false_alarms,
    intervals,
    kinds,
    measured,
    normal,
    shares,
    without_spread,
)

pytestmark = pytest.mark.slow
REPS = 40_000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


def reported(rng, n_r: int, spread: bool, reps: int = REPS) -> Sample:
    theirs = normal(rng, n_r, reps)
    return theirs if spread else without_spread(theirs)


@pytest.mark.parametrize("h", [0.0, 0.3])
@pytest.mark.parametrize(
    ("n_r", "spread"), [(1, False), (50, False), (3, True), (6, True), (20, True), (600, True)]
)
@pytest.mark.parametrize("n", [3, 10])
def test_the_rules_for_arrays_are_those_of_a_cell(rng, n_r, spread, n, h):
    ours, theirs = normal(rng, n, 300, 0.5), reported(rng, n_r, spread, 300)
    d, half = intervals(ours, theirs, h=h, level=0.95)
    found = kinds(d, half, 1.0, h)
    for i in range(300):
        s_r = None if theirs.std is None else float(theirs.std[i])
        r = Reading(float(theirs.mean[i]), s_r, n_r, False, h, "")
        mean = float(ours.mean[i])
        one = difference(mean, float(ours.std[i]), n, r)
        assert (one.d, one.half) == pytest.approx((d[i], half[i]))
        kind = verdict(one, n, 1.0, "none", mean=mean, reported=r.value)
        assert KINDS[found[i]] == ("different" if kind in {"higher", "lower"} else kind)


# Coverage


@pytest.mark.parametrize("n_r", [1, 5, 50])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage_without_a_reported_spread(rng, n, n_r):
    covered = coverage(*intervals(normal(rng, n, REPS), reported(rng, n_r, False)))
    assert covered == pytest.approx(95.0, abs=0.5)


@pytest.mark.parametrize(
    ("n", "n_r", "expected"),
    [(3, 3, 96.5), (3, 6, 94.8), (3, 10, 93.5), (5, 3, 95.4), (5, 6, 95.5), (10, 3, 93.6),
     (10, 6, 95.1)],
)  # fmt: skip
def test_coverage_of_welchs_interval(rng, n, n_r, expected):
    covered = coverage(*intervals(normal(rng, n, REPS), reported(rng, n_r, True)))
    assert covered == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage_beside_very_many_runs(rng, n):
    covered = coverage(*intervals(normal(rng, n, REPS), reported(rng, 600, True)))
    assert covered == pytest.approx(96.9, abs=0.5)


@pytest.mark.parametrize(("quantum", "expected"), [(0.0, 92.7), (0.02, 97.6)])
def test_coverage_of_small_shares_with_and_without_a_quantum(rng, quantum, expected):
    """Shares of 50 references, p = 2 %, three runs."""
    ours = measured(rng.binomial(50, 0.02, (REPS, 3)) / 50)
    floor = quantum / math.sqrt(12)
    ours = Sample(ours.mean, np.maximum(ours.std, floor), 3)
    theirs = Sample(rng.binomial(50, 0.02, REPS) / 50, None, 1)
    assert coverage(*intervals(ours, theirs)) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(("h", "expected"), [(0.0, 90.7), (0.5, 99.6)])
def test_coverage_of_printed_digits(rng, h, expected):
    """Unit of one standard deviation, rounded to it; n 10, n_r 50 with a spread."""
    truth = rng.uniform(-0.5, 0.5, REPS)
    theirs = normal(rng, 50, REPS)
    rounded = Sample(np.round(theirs.mean + truth), theirs.std, 50)
    ours = normal(rng, 10, REPS)
    ours = Sample(ours.mean + truth, ours.std, 10)
    assert coverage(*intervals(ours, rounded, h=h)) == pytest.approx(expected, abs=0.5)


# Verdicts

CHARACTERISTICS = [
    (1, False, 1, 3, (1, 60, 35, 5), (1, 45, 46, 8), (0, 18, 64, 18)),
    (1, False, 1, 5, (0, 63, 31, 5), (0, 46, 43, 11), (0, 18, 53, 29)),
    (1, False, 1, 10, (0, 66, 29, 5), (0, 47, 39, 14), (0, 17, 43, 40)),
    (1, False, 2, 3, (6, 83, 6, 4), (5, 73, 15, 7), (2, 45, 35, 17)),
    (1, False, 2, 10, (7, 85, 3, 5), (5, 76, 6, 14), (1, 45, 13, 40)),
    (3, True, 1, 3, (1, 77, 19, 3), (0, 48, 39, 12), (0, 11, 53, 36)),
    (3, True, 1, 5, (1, 81, 13, 5), (1, 48, 33, 18), (0, 8, 38, 53)),
    (3, True, 1, 10, (5, 81, 8, 6), (2, 46, 28, 24), (0, 6, 35, 59)),
    (3, True, 2, 3, (15, 82, 1, 3), (8, 75, 6, 11), (2, 42, 21, 36)),
    (3, True, 2, 10, (42, 54, 0, 3), (23, 55, 2, 20), (3, 27, 12, 57)),
    (6, True, 1, 3, (2, 82, 11, 5), (1, 48, 31, 20), (0, 8, 36, 56)),
    (6, True, 1, 5, (2, 87, 6, 4), (1, 48, 22, 29), (0, 5, 14, 81)),
    (6, True, 1, 10, (7, 86, 2, 5), (1, 45, 12, 41), (0, 2, 4, 93)),
    (6, True, 2, 5, (64, 33, 0, 3), (29, 44, 0, 27), (2, 16, 0, 81)),
    (6, True, 2, 10, (87, 11, 0, 2), (42, 24, 0, 34), (2, 5, 0, 92)),
    (50, False, 1, 3, (6, 83, 7, 4), (2, 46, 36, 17), (0, 4, 51, 45)),
    (50, False, 1, 5, (12, 82, 2, 4), (2, 42, 19, 37), (0, 1, 10, 88)),
    (50, False, 1, 10, (48, 48, 0, 4), (3, 24, 1, 73), (0, 0, 0, 100)),
    (600, True, 1, 3, (0, 92, 5, 3), (0, 50, 25, 26), (0, 4, 35, 61)),
    (600, True, 1, 5, (12, 84, 1, 3), (1, 43, 15, 41), (0, 1, 8, 91)),
    (600, True, 1, 10, (59, 38, 0, 3), (2, 19, 0, 79), (0, 0, 0, 100)),
]


@pytest.mark.parametrize(("n_r", "spread", "margin", "n", "at_0", "at_1", "at_2"), CHARACTERISTICS)
def test_shares_of_verdicts(rng, n_r, spread, margin, n, at_0, at_1, at_2):
    """Within half a per cent of the printed digits and three standard errors."""
    for off, expected in enumerate((at_0, at_1, at_2)):
        d, half = intervals(normal(rng, n, REPS, off), reported(rng, n_r, spread))
        for share, printed in zip(shares(kinds(d, half, margin)), expected, strict=True):
            error = 300 * math.sqrt(max(printed, 1) / 100 * (1 - printed / 101) / REPS)
            assert share == pytest.approx(printed, abs=0.5 + error)


def test_heavy_tails_beside_many_runs(rng):
    """Log-normal, sd/mean 6.5: few runs claim too little spread, and Welch believes them."""
    sigma = math.sqrt(math.log(1 + 6.5**2))
    theirs = measured(rng.lognormal(0, sigma, (4000, 600)))
    for n, wrong in ((3, 47), (10, 35), (25, 24)):
        ours = measured(rng.lognormal(0, sigma, (4000, n)))
        d, half = intervals(ours, theirs, welch_only=True)
        assert 100 * np.mean(d + half < 0) == pytest.approx(wrong, abs=3)
        d, half = intervals(ours, theirs)
        assert 100 * np.mean(d + half < 0) < 0.1


# Many looks


@pytest.fixture(scope="module")
def peeked() -> list[tuple[np.ndarray, Sample]]:
    """True reproductions: runs one after the other, beside three kinds of reported numbers."""
    rng = np.random.default_rng(5)
    return [
        (rng.normal(0, 1, (REPS, 20)), reported(rng, n_r, spread))
        for n_r, spread in ((1, False), (6, True), (50, False))
    ]


def holds_its_level(peeked, levels) -> None:
    """At most 5 % of true reproductions are called better or worse at any look."""
    for values, theirs in peeked:
        assert false_alarms(values, theirs, looks(20), levels, 1.0) <= 5.0


def test_looks_hold_the_level_because_they_share_it(peeked):
    holds_its_level(peeked, [1 - alpha for alpha in alphas(looks(20))])


def test_peeking_without_a_correction_fails_that_test(peeked):
    with pytest.raises(AssertionError):
        holds_its_level(peeked, [0.95] * 4)
    for values, theirs in peeked:
        assert 9 < false_alarms(values, theirs, looks(20), [0.95] * 4, 1.0) < 16


@pytest.mark.parametrize(("effect", "settled", "average"), [(1.0, 100, 14), (0.5, 88, 29)])
def test_claims_at_looks(rng, effect, settled, average):
    at = looks(40)
    values = rng.normal(effect, 1.0, (REPS, 40))
    done, seeds = np.zeros(REPS, dtype=bool), np.full(REPS, 40)
    for n, alpha in zip(at, alphas(at), strict=True):
        one = measured(values[:, :n])
        upheld = one.mean / (one.std / math.sqrt(n)) > stats.t.ppf(1 - alpha, n - 1)
        seeds[~done & upheld] = n
        done |= upheld
    assert 100 * done.mean() == pytest.approx(settled, abs=1)
    assert seeds.mean() == pytest.approx(average, abs=1)


@pytest.mark.parametrize(("n_r", "spread"), [(1, False), (6, True)])
def test_dropping_what_is_hopeless_saves_seeds_and_costs_no_errors(rng, n_r, spread):
    reps = 1000
    at = looks(40)
    levels = [1 - alpha for alpha in alphas(at)]
    theirs, values = reported(rng, n_r, spread, reps), rng.normal(0, 1, (reps, 40))
    spent: dict[bool, list[int]] = {True: [], False: []}
    wrong = {True: 0, False: 0}
    for i in range(reps):
        s_r = None if theirs.std is None else float(theirs.std[i])
        r = Reading(float(theirs.mean[i]), s_r, n_r, False, 0.0, "")
        for drops in (True, False):
            n = 0
            for look, (n, level) in enumerate(zip(at, levels, strict=True)):
                mean, std = float(values[i, :n].mean()), float(values[i, :n].std(ddof=1))
                one = difference(mean, std, n, r, level=level)
                kind = verdict(one, n, 1.0, "none", mean=mean, reported=r.value)
                wrong[drops] += kind in {"higher", "lower"}
                if kind in {"reproduced", "higher", "lower"}:
                    break
                chance = chance_settled_cell(mean, std, r, 1.0, 40, level=levels[-1])
                if drops and look >= 1 and chance < HOPELESS:
                    break
            spent[drops].append(n)
    assert np.mean(spent[False]) == pytest.approx(39, abs=1.5)
    assert 14 <= np.mean(spent[True]) <= 20
    assert wrong[True] <= wrong[False]


# Many claims


def test_holm_among_twenty_false_claims(rng):
    values = rng.normal(0, 1, (4000, 20, 5))
    t = values.mean(axis=2) / (values.std(axis=2, ddof=1) / math.sqrt(5))
    ps = stats.t.sf(t, 4)
    assert 100 * np.mean((ps < 0.05).any(axis=1)) == pytest.approx(64, abs=2.5)
    adjusted = np.array([min(holm(row)) for row in ps.tolist()])
    assert 100 * np.mean(adjusted < 0.05) == pytest.approx(5, abs=1.2)


def test_better_than_all_of_five_equals_is_contradicted_in_few_reports(rng):
    values = rng.normal(0, 1, (1500, 6, 5)).tolist()
    contradicted = singly = 0
    for rows in values:
        first, *others = [dict(enumerate(row)) for row in rows]
        effects = [contrast([Arm(1.0, first), Arm(-1.0, other)]) for other in others]
        contradicted += all_of(effects)[0] == "contradicted"
        singly += any(effect.p_against < 0.05 for effect in effects)
    assert 100 * singly / 1500 == pytest.approx(18, abs=3)
    assert 100 * contradicted / 1500 < 7


@pytest.mark.parametrize(("n", "upheld"), [(3, 37), (5, 66), (10, 95)])
def test_the_power_of_a_trend(rng, n, upheld):
    """Four points, steps of half a standard deviation, paired and independent."""
    weights = np.array([-1.5, -0.5, 0.5, 1.5])
    found = measured(rng.normal(0.5 * np.arange(4), 1.0, (REPS, n, 4)) @ weights)
    t = found.mean / (found.std / math.sqrt(n))
    assert 100 * np.mean(t > stats.t.ppf(0.95, n - 1)) == pytest.approx(upheld, abs=1)


@pytest.mark.parametrize(("n", "tied", "not_worse"), [(3, 13, 32), (5, 30, 59), (10, 80, 90)])
def test_the_power_of_a_tie(rng, n, tied, not_worse):
    """A true tie, margin of one standard deviation of the paired difference."""
    for truth, expected in ((0.0, tied), (1.0, None)):
        found = normal(rng, n, REPS, truth)
        reach = stats.t.ppf(0.95, n - 1) * found.std / math.sqrt(n)
        upheld = 100 * np.mean(np.abs(found.mean) + reach <= 1)
        assert upheld <= 5.3 if expected is None else upheld == pytest.approx(expected, abs=1)
        if expected is not None:
            assert 100 * np.mean(found.mean - reach > -1) == pytest.approx(not_worse, abs=1)


@pytest.mark.parametrize(
    ("correlation", "n", "paired", "welch"),
    [(0, 3, 49, 58), (0, 5, 83, 88), (0.5, 3, 71, 62), (0.5, 5, 98, 94), (0.9, 3, 100, 71),
     (0.9, 5, 100, 97)],
)  # fmt: skip
def test_the_power_of_pairing(rng, correlation, n, paired, welch):
    """A difference of two standard deviations."""
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    noise = shared * rng.normal(size=(4000, n, 1)) + own * rng.normal(size=(4000, n, 2))
    for is_paired, power in ((True, paired), (False, welch)):
        upheld = 0
        for a, b in zip((noise[..., 0] + 2).tolist(), noise[..., 1].tolist(), strict=True):
            arms = [Arm(1.0, dict(enumerate(a))), Arm(-1.0, dict(enumerate(b)))]
            upheld += conclude(contrast(arms, paired=is_paired)) == "upheld"
        assert 100 * upheld / 4000 == pytest.approx(power, abs=2.5)
