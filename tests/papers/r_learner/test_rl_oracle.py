"""The oracle variant: exact covariances against every possible data set, and against simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.r_learner.oracle import (
    Design,
    asymptotic_covariance,
    mse_ratio,
    oracle_fit,
    square_given_ax,
    variance_given_x,
)
from retable.papers.r_learner.rows import Pseudo, Row, Weight
from retable.papers.r_learner.setups import Sample

X_ONLY = (Weight.ONE, Weight.DR_X, Weight.U_X)


def row(pseudo: str, weight: str) -> Row:
    return Row(Pseudo(pseudo), Weight(weight))


def design(points: int = 5, seed: int = 0) -> tuple[Design, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = np.linspace(-1, 1, points)
    phi = np.column_stack([np.ones(points), z])
    pi = rng.uniform(0.1, 0.9, points)
    return Design(phi, pi, phi @ [1.0, 2.0], np.full(points, 1 / points), noise=0.49), rng.normal(
        size=points
    )


def sample(law: Design, b: np.ndarray, at: np.ndarray, a: np.ndarray, noise: np.ndarray) -> Sample:
    y = b[at] + (a - 0.5) * law.tau[at] + noise
    return Sample(law.phi[at], a, y, law.pi[at], b[at], law.tau[at])


@pytest.mark.slow
@pytest.mark.parametrize("pseudo", list(Pseudo))
@pytest.mark.parametrize("weight", X_ONLY)
def test_covariance_is_that_of_all_data_sets_with_these_x(pseudo, weight):
    """2^5 treatments times 2^5 noises of +-s: each a fit, each with its probability."""
    law, b = design()
    at, s = np.arange(5), np.sqrt(law.noise)
    total, mean, square = 0.0, np.zeros(2), np.zeros((2, 2))
    for treated in product((0.0, 1.0), repeat=5):
        a = np.array(treated)
        chance = np.prod(np.where(a == 1, law.pi, 1 - law.pi)) / 2**5
        for signs in product((-s, s), repeat=5):
            drawn = sample(law, b, at, a, np.array(signs))
            beta = oracle_fit(drawn, Row(pseudo, weight), law.phi)
            total += chance
            mean += chance * beta
            square += chance * np.outer(beta, beta)
    assert total == pytest.approx(1)
    np.testing.assert_allclose(mean, [1.0, 2.0], atol=1e-10)
    found = asymptotic_covariance(Row(pseudo, weight), law) / 5
    np.testing.assert_allclose(square - np.outer(mean, mean), found, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pseudo", "weight"), [("u", "u_ax"), ("dr", "dr_ax"), ("dr", "dr_ax_adhoc")]
)
def test_covariance_with_weights_of_a_is_that_of_many_large_samples(pseudo, weight):
    law, b = design()
    rng = np.random.default_rng(1)
    n, repeats = 400, 1500
    betas = np.empty((repeats, 2))
    for k in range(repeats):
        at = rng.integers(0, 5, n)
        a = (rng.random(n) < law.pi[at]).astype(float)
        drawn = sample(law, b, at, a, np.sqrt(law.noise) * rng.standard_normal(n))
        betas[k] = oracle_fit(drawn, row(pseudo, weight), law.phi[at])
    expected = asymptotic_covariance(row(pseudo, weight), law)
    # A variance of 1500 draws is known to within 3.7 percent.
    np.testing.assert_allclose(n * betas.var(axis=0), np.diag(expected), rtol=0.15)


@given(pi=st.floats(0.02, 0.98), tau=st.floats(-4, 4), noise=st.floats(0.1, 4))
def test_what_is_given_a_adds_up_to_what_is_given_x(pi, tau, noise):
    p, t = np.array([pi]), np.array([tau])
    for pseudo in Pseudo:
        parts = [square_given_ax(pseudo, np.array([a]), p, t, noise)[0] for a in (1.0, 0.0)]
        found = pi * parts[0] + (1 - pi) * parts[1]
        assert found == pytest.approx(variance_given_x(pseudo, p, t, noise)[0], rel=1e-8)


def test_variances_at_a_worked_example():
    p, t = np.array([0.3]), np.array([2.0])
    found = {k: variance_given_x(k, p, t)[0] for k in Pseudo}
    assert found[Pseudo.U] == pytest.approx(8.3900, abs=5e-5)
    assert found[Pseudo.DR] == found[Pseudo.DR_SEPARATE] == pytest.approx(4.7619, abs=5e-5)
    assert found[Pseudo.COV] == pytest.approx(7.8095, abs=5e-5)


@given(seed=st.integers(0, 10**6))
def test_the_inverse_variance_is_the_best_weight(seed):
    """Gauss and Markov: given what the weight may depend on, no other weight does better."""
    law, _ = design(seed=seed)
    for pseudo, best, others in (
        ("u", "u_ax", ("one", "u_x", "dr_x", "dr_ax", "dr_ax_adhoc")),
        ("dr", "dr_ax", ("one", "u_ax", "u_x", "dr_x", "dr_ax_adhoc")),
        ("u", "u_x", ("one", "dr_x")),
        ("dr", "dr_x", ("one", "u_x")),
    ):
        for other in others:
            assert mse_ratio(row(pseudo, other), row(pseudo, best), law) >= 1 - 1e-9


def test_ratio_at_a_design_worked_by_hand():
    """One constant, two points: Var = sum q_i w_i^2 v_i / (sum q_i w_i)^2."""
    law = Design(np.ones((2, 1)), np.array([0.5, 0.1]), np.full(2, 3.0), np.array([0.5, 0.5]))
    v = np.array([4.0, 1 / 0.09])
    weighted, plain = 2 / (1 / v).sum(), v.mean()
    found = mse_ratio(row("dr", "one"), row("dr", "dr_x"), law)
    assert found == pytest.approx(plain / weighted)


def test_randomised_with_half_nothing_depends_on_the_weight():
    law = Design(np.eye(3), np.full(3, 0.5), np.ones(3), np.full(3, 1 / 3))
    for pseudo in ("u", "dr"):
        for weight in Weight:
            ratio = mse_ratio(row(pseudo, weight), row("u", "one"), law)
            assert ratio == pytest.approx(1, abs=1e-12)


def test_what_has_no_answer_is_refused():
    law, _ = design()
    with pytest.raises(ValueError, match="does not estimate tau"):
        asymptotic_covariance(row("cov", "u_ax"), law)
    with pytest.raises(ValueError, match="strictly between"):
        Design(np.ones((1, 1)), np.ones(1), np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="probabilities"):
        Design(np.ones((1, 1)), np.full(1, 0.5), np.ones(1), np.full(1, 0.4))
