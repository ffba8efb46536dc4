"""What weights do to a pseudo-outcome's bias, to a fit's equations, and to a cell's summary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.r_learner.learners.linear import Linear, basis
from retable.papers.r_learner.por import (
    clip,
    fit_r_learner,
    fit_weighted_por,
    pseudo_cov,
    pseudo_dr,
    pseudo_u,
    weight,
)
from retable.papers.r_learner.rows import Weight
from retable.tables import spec as specs
from retable.tables.verdicts.judge import judge_cell
from support.judge import table_of

share = st.floats(0.05, 0.95)
value = st.floats(-3, 3)


def dr_limits(kind: Weight, pi: float, pi_hat: float, mu, mu_hat) -> tuple[float, float]:
    """``E[w g]`` and ``E[w]`` of DR at one x, A enumerated, no noise; ``mu`` treated first."""
    a, chance = np.array([1.0, 0.0]), np.array([pi, 1 - pi])
    p, k = np.full(2, pi_hat), np.full(2, 1 - pi_hat)
    g = pseudo_dr(np.array(mu), a, p, k, np.full(2, mu_hat[0]), np.full(2, mu_hat[1]))
    w = weight(kind, a, p, k)
    return float(chance @ (w * g)), float(chance @ w)


@given(share, share, value, value, value, value)
def test_the_weight_of_dr_cancels_the_inverse_propensities_of_its_bias(
    pi, pi_hat, mu1, mu0, mu1_hat, mu0_hat
):
    """``pi kappa (E[g] - tau) = d [kappa (mu1 - mu1_hat) + pi (mu0 - mu0_hat)]``, hats on pi."""
    total, w = dr_limits(Weight.DR_X, pi, pi_hat, (mu1, mu0), (mu1_hat, mu0_hat))
    kappa_hat, d = 1 - pi_hat, pi - pi_hat
    expected = d * (kappa_hat * (mu1 - mu1_hat) + pi_hat * (mu0 - mu0_hat))
    assert total - w * (mu1 - mu0) == pytest.approx(expected, abs=1e-9)


@given(share, share, value, value, value, value)
def test_dr_with_weights_of_the_treatment_needs_the_outcome_models(
    pi, pi_hat, mu1, mu0, mu1_hat, mu0_hat
):
    tau = mu1 - mu0
    for kind in (Weight.DR_AX, Weight.DR_AX_ADHOC):
        # Right outcome models are enough, whatever the propensity.
        total, w = dr_limits(kind, pi, pi_hat, (mu1, mu0), (mu1, mu0))
        assert total / w == pytest.approx(tau, abs=1e-9)
    for kind in (Weight.ONE, Weight.DR_X):
        # A right propensity is enough too without them, or with weights of X alone ...
        total, w = dr_limits(kind, pi, pi, (mu1, mu0), (mu1_hat, mu0_hat))
        assert total / w == pytest.approx(tau, abs=1e-8)


def test_dr_with_weights_of_the_treatment_is_not_doubly_robust():
    """... and not enough with weights of the treatment: pi = 0.3, effect 2, wrong outcome models.

    By hand: g is ``1.9 + 0.4/0.3`` where A = 1 and ``1.9 - 0.3/0.7`` where A = 0, weights 0.09 and
    0.49.
    """
    total, w = dr_limits(Weight.DR_AX, 0.3, 0.3, (2.4, 0.4), (2.0, 0.1))
    by_hand = 0.3 * 0.09 * (1.9 + 0.4 / 0.3) + 0.7 * 0.49 * (1.9 - 0.3 / 0.7)
    assert total == pytest.approx(by_hand, abs=1e-12)
    assert w == pytest.approx(0.3 * 0.09 + 0.7 * 0.49)
    assert total / w == pytest.approx(1.6, abs=0.01)


def data(seed: int, n: int = 60):
    rng = np.random.default_rng(seed)
    pi = clip(rng.uniform(0, 1, n))
    a = (rng.random(n) < 0.5).astype(float)
    return rng.standard_normal((n, 3)), a, rng.standard_normal(n), pi, rng.standard_normal(n), rng


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_r_and_weighted_cov_solve_equations_with_one_right_hand_side(seed):
    """``sum (A-pi)(Y-m) phi``; to the left ``sum (A-pi)^2 t phi`` (R), ``sum pi kappa t phi``."""
    x, a, y, pi, m, rng = data(seed)
    phi, kappa = basis(x), 1 - pi
    right = phi.T @ ((a - pi) * (y - m))
    r = fit_r_learner(x, y, a, pi, m, Linear(), rng)
    np.testing.assert_allclose(phi.T @ ((a - pi) ** 2 * r.predict(x)), right, atol=1e-8)
    w = weight(Weight.DR_X, a, pi, kappa)
    cov = fit_weighted_por(x, pseudo_cov(y, a, pi, kappa, m), w, Linear(), rng)
    np.testing.assert_allclose(phi.T @ (pi * kappa * cov.predict(x)), right, atol=1e-8)
    assert not np.allclose(r.predict(x), cov.predict(x))


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_a_common_factor_of_the_weights_does_nothing_to_a_fit_without_penalty(seed, factor):
    x, a, y, pi, m, rng = data(seed)
    g, w = pseudo_u(y, a, pi, m), weight(Weight.U_AX, a, pi, 1 - pi)
    beta = fit_weighted_por(x, g, w, Linear(), rng).beta
    scaled = fit_weighted_por(x, g, factor * w, Linear(), rng).beta
    np.testing.assert_allclose(scaled, beta, rtol=1e-8, atol=1e-8)
    # Divided within halves it is another fit: a fold's mean must not be taken out.
    halves = np.concatenate([w[:30] / w[:30].mean(), w[30:] / w[30:].mean()])
    assert not np.allclose(fit_weighted_por(x, g, halves, Linear(), rng).beta, beta)


def test_a_cell_is_the_mean_over_seeds_before_any_logarithm_with_the_median_beside():
    """The mean of logarithms is another quantity where a few seeds are large."""
    spec = specs.load("r_learner/main_comparison")
    errors = [0.05 + 0.001 * k for k in range(29)] + [30.0]
    table = table_of(spec, {"u-one": {"c_n250": errors}})
    cell = table.cells["u-one", "c_n250"]
    assert cell.mean == pytest.approx(sum(errors) / 30)
    logs = math.exp(sum(map(math.log, errors)) / 30)
    assert cell.mean > 10 * logs
    judged = judge_cell(table, cell)
    assert "heavy tails" in judged.marks
    assert judged.median == pytest.approx(0.0645)
