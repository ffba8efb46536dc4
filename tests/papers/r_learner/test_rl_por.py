"""Pseudo-outcomes and weights against closed forms: identity, variances, biases, pi = 1/2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.r_learner.learners.linear import Linear, basis
from retable.papers.r_learner.por import (
    Nuisances,
    clip,
    fit_weighted_por,
    pseudo_cov,
    pseudo_dr,
    pseudo_outcome,
    pseudo_u,
    r_loss,
    weight,
)
from retable.papers.r_learner.rows import ROWS, Pseudo, Row, Weight, parse


def nuisances(pi: np.ndarray, rng: np.random.Generator) -> Nuisances:
    m, mu1, mu0, sep1, sep0 = rng.standard_normal((5, len(pi)))
    return Nuisances(pi, 1 - pi, m, mu1, mu0, sep1, sep0)


def data(seed: int, n: int = 60, low: float = 0.0):
    rng = np.random.default_rng(seed)
    pi = clip(rng.uniform(low, 1 - low, n))
    a = (rng.random(n) < 0.5).astype(float)
    return rng.standard_normal((n, 3)), a, rng.standard_normal(n), nuisances(pi, rng), rng


@given(seed=st.integers(0, 2**32 - 1))
def test_r_loss_is_the_weighted_loss_of_u(seed):
    _, a, y, n, rng = data(seed)
    t = 3 * rng.standard_normal(len(y))
    u = pseudo_u(y, a, n.pi, n.m)
    left = weight(Weight.U_AX, a, n.pi, n.kappa) * (u - t) ** 2
    np.testing.assert_allclose(left, r_loss(y, a, n.pi, n.m, t), rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_u_with_its_inverse_variance_is_r_learning(seed):
    """The R-loss has the closed-form minimiser of a regression of Y - m on (A - pi) phi."""
    x, a, y, n, rng = data(seed)
    g = pseudo_u(y, a, n.pi, n.m)
    w = weight(Weight.U_AX, a, n.pi, n.kappa)
    fit = fit_weighted_por(x, g, w, Linear(), rng)
    r = np.linalg.lstsq((a - n.pi)[:, None] * basis(x), y - n.m, rcond=None)[0]
    np.testing.assert_allclose(fit.beta, r, rtol=1e-10, atol=1e-10)


def test_the_identity_breaks_where_the_weight_comes_from_another_propensity():
    x, a, y, n, rng = data(1)
    raw = n.pi.copy()
    raw[:20] = 0.001
    g = pseudo_u(y, a, clip(raw), n.m)
    w = weight(Weight.U_AX, a, raw, 1 - raw)
    fit = fit_weighted_por(x, g, w, Linear(), rng)
    r = np.linalg.lstsq((a - raw)[:, None] * basis(x), y - n.m, rcond=None)[0]
    assert np.abs(fit.beta - r).max() > 1e-4


def moments(kind: Pseudo, pi: float, tau: float, s: float, mu0: float = 0.4):
    """Mean and variance of a pseudo-outcome given X: A enumerated, noise of two points +-s."""
    mu1 = mu0 + tau
    m = pi * mu1 + (1 - pi) * mu0
    a = np.array([1.0, 1.0, 0.0, 0.0])
    y = np.array([mu1 + s, mu1 - s, mu0 + s, mu0 - s])
    chance = np.array([pi, pi, 1 - pi, 1 - pi]) / 2
    full = [np.full(4, v) for v in (pi, 1 - pi, m, mu1, mu0, mu1, mu0)]
    g = pseudo_outcome(kind, y, a, Nuisances(*full))
    mean = float(chance @ g)
    return mean, float(chance @ (g - mean) ** 2)


@pytest.mark.parametrize(
    ("kind", "variance"),
    [(Pseudo.U, 8.39002268), (Pseudo.DR, 4.76190476), (Pseudo.COV, 7.80952381)],
)
def test_variances_at_a_worked_example(kind, variance):
    mean, found = moments(kind, pi=0.3, tau=2.0, s=1.0)
    assert mean == pytest.approx(2.0, abs=1e-12)
    assert found == pytest.approx(variance, abs=1e-8)


@given(pi=st.floats(0.01, 0.99), tau=st.floats(-5, 5), s=st.floats(0.1, 3))
def test_weights_are_inverse_variances(pi, tau, s):
    p, k = np.array([pi]), np.array([1 - pi])
    for kind, w in (
        (Pseudo.U, Weight.U_X),
        (Pseudo.DR, Weight.DR_X),
        (Pseudo.DR_SEPARATE, Weight.DR_X),
    ):
        mean, variance = moments(kind, pi, tau, s)
        assert mean == pytest.approx(tau, abs=1e-9)
        assert variance * weight(w, p, p, k)[0] == pytest.approx(s**2, rel=1e-8)
    mean, variance = moments(Pseudo.COV, pi, tau, s)
    assert mean == pytest.approx(tau, abs=1e-9)
    expected = (s**2 + tau**2) / (pi * (1 - pi)) - 4 * tau**2
    assert variance == pytest.approx(expected, rel=1e-8)
    # Given A too: g is linear in Y with a slope that depends on A, so the variance is its square.
    for a in (np.array([1.0]), np.array([0.0])):
        zero, one = np.zeros(1), np.ones(1)
        slope = pseudo_u(one, a, p, zero) - pseudo_u(zero, a, p, zero)
        assert slope[0] ** 2 * weight(Weight.U_AX, a, p, k)[0] == pytest.approx(1)
        slope = pseudo_dr(one, a, p, k, zero, zero) - pseudo_dr(zero, a, p, k, zero, zero)
        assert slope[0] ** 2 * weight(Weight.DR_AX, a, p, k)[0] == pytest.approx(1)


def wrong(pi, pi_hat, mu1, mu0, m_hat, mu1_hat, mu0_hat):
    """E[g|x] at wrong nuisances, and E[w g]/E[w] of the R-learner; A enumerated, no noise."""
    a, y, chance = np.array([1.0, 0.0]), np.array([mu1, mu0]), np.array([pi, 1 - pi])
    full = [np.full(2, v) for v in (pi_hat, 1 - pi_hat, m_hat, mu1_hat, mu0_hat)]
    p, k, m, m1, m0 = full
    w = weight(Weight.U_AX, a, p, k)
    u = pseudo_u(y, a, p, m)
    return {
        "r": chance @ (w * u) / (chance @ w),
        "u": chance @ u,
        "dr": chance @ pseudo_dr(y, a, p, k, m1, m0),
        "cov": chance @ pseudo_cov(y, a, p, k, m),
    }


def test_biases_at_a_worked_example():
    found = wrong(0.3, 0.4, 2.4, 0.4, 0.8, 2.0, 0.1)
    assert found["r"] == pytest.approx(1.81818182, abs=1e-8)
    assert found["dr"] - 2 == pytest.approx(-0.15, abs=1e-12)
    assert found["cov"] - 2 == pytest.approx(-1 / 3, abs=1e-12)
    assert found["u"] == pytest.approx(1.5, abs=1e-12)


unit = st.floats(0.05, 0.95)
mean_value = st.floats(-3, 3)


@given(unit, unit, mean_value, mean_value, mean_value, mean_value, mean_value)
def test_biases_have_their_closed_forms(pi, pi_hat, mu1, mu0, m_hat, mu1_hat, mu0_hat):
    found = wrong(pi, pi_hat, mu1, mu0, m_hat, mu1_hat, mu0_hat)
    kappa, kappa_hat, d, tau = 1 - pi, 1 - pi_hat, pi - pi_hat, mu1 - mu0
    m = pi * mu1 + kappa * mu0
    expected = {
        "r": tau + (d * (m - m_hat) - tau * d**2) / (pi * kappa + d**2),
        "u": pi * (mu1 - m_hat) / kappa_hat - kappa * (mu0 - m_hat) / pi_hat,
        "dr": tau + d * ((mu1 - mu1_hat) / pi_hat + (mu0 - mu0_hat) / kappa_hat),
        "cov": tau + (d * (m - m_hat) + tau * d * (1 - pi - pi_hat)) / (pi_hat * kappa_hat),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-8, abs=1e-8), name


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_half_makes_all_weights_constant_and_pseudo_outcomes_meet(seed):
    x, a, y, n, rng = data(seed)
    half = np.full_like(n.pi, 0.5)
    mid = Nuisances(half, 1 - half, (n.mu1 + n.mu0) / 2, n.mu1, n.mu0, n.mu1, n.mu0)
    u = pseudo_outcome(Pseudo.U, y, a, mid)
    np.testing.assert_allclose(u, 2 * (2 * a - 1) * (y - mid.m), rtol=1e-12)
    np.testing.assert_allclose(pseudo_outcome(Pseudo.COV, y, a, mid), u, rtol=1e-12)
    np.testing.assert_allclose(pseudo_outcome(Pseudo.DR, y, a, mid), u, rtol=1e-9, atol=1e-9)
    plain = fit_weighted_por(x, u, np.ones_like(u), Linear(), rng)
    for kind in Weight:
        w = weight(kind, a, half, 1 - half)
        assert np.ptp(w) < 1e-15
        fit = fit_weighted_por(x, u, w, Linear(), rng)
        np.testing.assert_allclose(fit.beta, plain.beta, rtol=1e-9, atol=1e-9)


def test_weights_at_a_hand_worked_unit():
    treated, control, pi = np.array([1.0]), np.array([0.0]), np.array([0.2])
    found = {k: [float(weight(k, a, pi, 1 - pi)[0]) for a in (treated, control)] for k in Weight}
    x_only = 0.16**2 / (0.008 + 0.512)
    expected = {
        Weight.ONE: [1, 1],
        Weight.U_AX: [0.64, 0.04],
        Weight.U_X: [x_only, x_only],
        Weight.DR_X: [0.16, 0.16],
        Weight.DR_AX: [0.04, 0.64],
        Weight.DR_AX_ADHOC: [0.2, 0.8],
    }
    for kind in Weight:
        assert found[kind] == pytest.approx(expected[kind]), kind


def test_dr_takes_the_outcome_models_that_its_name_says():
    _, a, y, n, _ = data(3)
    single = pseudo_outcome(Pseudo.DR, y, a, n)
    separate = pseudo_outcome(Pseudo.DR_SEPARATE, y, a, n)
    np.testing.assert_array_equal(single, pseudo_dr(y, a, n.pi, n.kappa, n.mu1, n.mu0))
    other = pseudo_dr(y, a, n.pi, n.kappa, n.mu1_separate, n.mu0_separate)
    np.testing.assert_array_equal(separate, other)
    assert np.abs(single - separate).min() > 0


def test_r_and_weighted_cov_share_their_numerator():
    _, a, y, n, _ = data(4)
    r = weight(Weight.U_AX, a, n.pi, n.kappa) * pseudo_u(y, a, n.pi, n.m)
    cov = weight(Weight.DR_X, a, n.pi, n.kappa) * pseudo_cov(y, a, n.pi, n.kappa, n.m)
    np.testing.assert_allclose(r, cov, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(r, (a - n.pi) * (y - n.m), rtol=1e-12, atol=1e-12)


def test_clipping():
    found = clip(np.array([-1.0, 0.0, 0.01, 0.5, 0.995, 2.0]))
    assert found.tolist() == [0.01, 0.01, 0.01, 0.5, 0.99, 0.99]
    with pytest.raises(ValueError, match=r"0\.5"):
        clip(found, 0.5)
    with pytest.raises(ValueError, match="not finite"):
        clip(np.array([np.nan]))


@pytest.mark.parametrize(
    ("g", "w", "message"),
    [
        ([1.0, np.inf, 0.0], [1.0, 1.0, 1.0], "not finite"),
        ([1.0, 0.0, 0.0], [1.0, -1.0, 1.0], "negative"),
        ([1.0, 0.0, 0.0], [0.0, 0.0, 0.0], "all zero"),
        ([1.0, 0.0], [1.0, 1.0, 1.0], "2 pseudo-outcomes"),
    ],
)
def test_a_fit_that_means_nothing_is_refused(g, w, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        fit_weighted_por(np.ones((3, 1)), np.array(g), np.array(w), Linear(), rng)


def test_row_names():
    assert len(ROWS) == len(set(ROWS)) == 14
    assert parse("dr_separate-dr_ax_adhoc") == Row(Pseudo.DR_SEPARATE, Weight.DR_AX_ADHOC)
    assert parse("t") is None
    assert all(str(parse(name)) == name for name in ROWS if name != "t")
    for name in ("T", "dr", "dr-", "u-x", "x-one", "u-one-one"):
        with pytest.raises(ValueError, match="no row"):
            parse(name)
