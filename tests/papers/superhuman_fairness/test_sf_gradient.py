"""The score-function step: enumeration, centring, the authors' constant, sampling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from retable.papers.superhuman_fairness.gradient import Sampler, baseline, gradient, probability
from retable.papers.superhuman_fairness.losses import losses
from retable.papers.superhuman_fairness.units import Units

X = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, -1.1]])
THETA = np.array([0.4, -0.6])
BIAS = 0.2
VECTORS = np.array(list(itertools.product([0, 1], repeat=3)))
COST = np.array([3.0, 0.5, 1.0, 0.0, 2.0, 4.0, 0.3, 1.7])  # some function of the decisions


def chances(theta):
    p = probability(X, theta, BIAS)
    return np.prod(np.where(VECTORS == 1, p, 1 - p), axis=1)


def expected_step(center, shift=0.0, constant="none"):
    """Mean of the step over all pairs of vectors that two references may be given."""
    chance, total = chances(THETA), np.zeros(2)
    for first, second in itertools.product(range(8), repeat=2):
        pair = [first, second]
        parts = COST[pair][:, None] + shift
        sums = VECTORS[pair] @ X
        step = gradient(parts, sums, 3, 6, center=center, constant=constant)
        total += chance[first] * chance[second] * step
    return total


def numeric():
    """Slope of ``E[S]`` by finite differences."""
    out, h = np.zeros(2), 1e-6
    for k in range(2):
        step = np.eye(2)[k] * h
        out[k] = (chances(THETA + step) @ COST - chances(THETA - step) @ COST) / (2 * h)
    return out


def test_the_correct_step_is_the_slope_of_the_expected_subdominance():
    # Two references: the sum has mean (2 - 1) Cov(S, Phi), and Phi is a mean over three items.
    np.testing.assert_allclose(3 * expected_step("correct"), numeric(), rtol=1e-7)


def test_a_constant_shift_does_not_move_the_correct_step():
    np.testing.assert_allclose(expected_step("correct", 5.0), expected_step("correct"), rtol=1e-10)


def test_a_constant_shift_moves_the_step_as_coded():
    """The drift: half of the mean feature vector for each unit of subdominance."""
    moved = expected_step("as_coded", 5.0) - expected_step("as_coded")
    mean = probability(X, THETA, BIAS) @ X / 3
    np.testing.assert_allclose(moved, 2 * 5.0 * 0.5 * mean, rtol=1e-10)
    assert np.abs(moved).max() > 1


def test_the_two_agree_where_references_decide_on_everybody():
    parts, total = np.array([[1.0], [2.0]]), np.array([[3.0, 1.0], [0.0, 2.0]])
    both = [gradient(parts, total, 4, 4, center=c) for c in ("as_coded", "correct")]
    np.testing.assert_array_equal(*both)


def loop_of_the_authors(parts, total, size, n):
    """Reference by reference and measure by measure, the constant from the half-filled matrix."""
    filled, step = np.zeros_like(parts), np.zeros(total.shape[1])
    mean = np.mean([row / n for row in total], axis=0)
    for j in range(len(parts)):
        constant = filled.mean() if j else 0.0
        for k in range(parts.shape[1]):
            filled[j, k] = parts[j, k] - constant
            step += filled[j, k] * (total[j] / size - mean)
    return filled, step


def test_the_constant_and_the_step_are_those_of_the_authors_loop():
    rng = np.random.default_rng(0)
    parts, total = rng.random((9, 4)), rng.normal(size=(9, 3))
    filled, step = loop_of_the_authors(parts, total, 10, 20)
    np.testing.assert_allclose(parts - baseline(parts)[:, None], filled, rtol=1e-12)
    np.testing.assert_allclose(gradient(parts, total, 10, 20), step, rtol=1e-12)
    assert baseline(parts)[0] == 0.0
    assert baseline(parts)[1] == pytest.approx(parts[0].sum() / 36)


def test_twice_the_references_give_twice_the_step():
    """A sum, not a mean: the rate has to go with 50 / N."""
    rng = np.random.default_rng(1)
    parts, total = rng.random((5, 4)), rng.normal(size=(5, 3))
    once = gradient(parts, total, 10, 20, constant="none")
    twice = gradient(np.tile(parts, (2, 1)), np.tile(total, (2, 1)), 10, 20, constant="none")
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-12)


def population(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y, a = (rng.integers(0, 2, n).astype(np.int8) for _ in range(2))
    return Units(rng.normal(size=(n, 3)), y, a)


def subsets(n, size, count, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(n)[:size] for _ in range(count)])


def test_a_sample_has_the_losses_and_sums_of_its_own_items_only():
    units, index = population(), subsets(60, 25, 4)
    decisions = np.random.default_rng(2).random((4, 60)) < 0.5
    sample = Sampler(units, index).measure(decisions)
    for j, items in enumerate(index):
        mine = decisions[j, items]
        found = losses(mine, units.y[items], units.a[items])[0]
        np.testing.assert_allclose(sample.losses[j], found, rtol=1e-14)
        np.testing.assert_allclose(sample.total[j], units.x[items[mine]].sum(axis=0), rtol=1e-12)
    turned = decisions.copy()
    turned[~Sampler(units, index).chosen] ^= True
    again = Sampler(units, index).measure(turned)
    np.testing.assert_array_equal(again.total, sample.total)


def test_samples_are_bernoulli_one_per_reference_and_redrawn():
    units, index = population(), subsets(60, 30, 400)
    sampler = Sampler(Units(np.eye(60), units.y, units.a), index)
    p = np.linspace(0, 1, 60)
    rng = np.random.default_rng(3)
    first, second = sampler.draw(p, rng).total, sampler.draw(p, rng).total
    assert (first != second).any()
    assert (first[0] != first[1]).any()
    drawn = sampler.chosen.sum(axis=0)
    share = (first + second).sum(axis=0) / (2 * drawn)
    assert share[0] == 0
    assert share[-1] == 1
    spread = np.sqrt(p * (1 - p) / (2 * drawn))
    assert (np.abs(share - p) <= 4.5 * spread + 1e-9).all()


@pytest.mark.parametrize(
    ("index", "message"),
    [([[0, 60]], "items 0 to 59"), ([[-1, 3]], "items 0 to 59"), ([[4, 4]], "an item twice")],
)
def test_an_index_that_names_no_items_is_refused(index, message):
    with pytest.raises(ValueError, match=message):
        Sampler(population(), np.array(index))


def test_the_probability_does_not_overflow():
    found = probability(np.array([[1.0], [-1.0], [0.0]]), np.array([1e4]), 0.0)
    assert found.tolist() == [1.0, 0.0, 0.5]
