"""The solvers on Gram matrices: closed forms, optimality, literal references, singular matrices."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from retable.papers.igb import solvers

SEEDS = st.integers(0, 2**32 - 1)
OPPOSITE = np.array([[1.0, -1.0], [-1.0, 1.0]])


def gradients(n, seed, spread=2.0, length=20, common=0.5):
    """Rows whose lengths differ by factors up to exp(2 spread), partly along one direction."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, length)) + common * rng.normal(size=length)
    return rows * np.exp(rng.uniform(-spread, spread, (n, 1)))


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS)
def test_min_norm_of_two_is_the_closed_form(seed):
    g = gradients(2, seed, length=3)
    first = np.clip((g[1] - g[0]) @ g[1] / ((g[0] - g[1]) ** 2).sum(), 0, 1)
    np.testing.assert_allclose(solvers.min_norm(g @ g.T), [first, 1 - first], atol=1e-12)


def test_min_norm_of_two_clips_to_the_shorter():
    assert solvers.min_norm(np.array([[1.0, 2.0], [2.0, 9.0]])).tolist() == [1.0, 0.0]
    assert solvers.min_norm(np.array([[9.0, 2.0], [2.0, 1.0]])).tolist() == [0.0, 1.0]
    assert solvers.min_norm(np.array([[4.0, 0.0], [0.0, 1.0]])).tolist() == pytest.approx(
        [0.2, 0.8]
    )


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 12), length=st.sampled_from([1, 2, 5, 40]), seed=SEEDS)
def test_min_norm_is_optimal(n, length, seed):
    g = gradients(n, seed, spread=4, length=length)
    gram = g @ g.T
    w = solvers.min_norm(gram)
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (w >= 0).all()
    # Optimal: no vertex of the simplex is downhill. Lengths are in units of the shortest gradient.
    assert (w @ gram @ w - (gram @ w).min()) / gram.diagonal().min() < 1e-8


def test_min_norm_of_orthogonal_gradients_is_inverse_squared_length():
    squares = np.array([1.0, 4.0, 9.0, 16.0])
    w = solvers.min_norm(np.diag(squares))
    np.testing.assert_allclose(w, (1 / squares) / (1 / squares).sum(), rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 6), c=st.sampled_from([0.1, 0.4, 0.9]), seed=SEEDS)
def test_cagrad_is_no_worse_than_the_general_solver(n, c, seed):
    g = gradients(n, seed, spread=1)
    gram, mean = g @ g.T, g.mean(0)
    radius = c * np.linalg.norm(mean)
    w = solvers.cagrad(gram, c) * (1 + c**2) - 1 / n  # lambda w
    assert (w >= -1e-12).all()
    w = w / w.sum()

    def objective(x):
        return x @ g @ mean + radius * np.linalg.norm(x @ g)

    literal = minimize(
        objective,
        np.full(n, 1 / n),
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda x: 1 - x.sum()},
    )
    scale = radius * np.linalg.norm(g, axis=1).max()
    assert objective(w) <= literal.fun + 1e-9 * scale
    if literal.success:
        assert objective(w) >= literal.fun - 1e-4 * scale


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 8), c=st.sampled_from([0.0, 0.1, 0.4, 0.9]), seed=SEEDS)
def test_cagrad_lies_on_the_sphere_around_the_mean(n, c, seed):
    g = gradients(n, seed)
    mean, d = g.mean(0), solvers.cagrad(g @ g.T, c) @ g
    away = np.linalg.norm(d * (1 + c**2) - mean)
    assert away == pytest.approx(c * np.linalg.norm(mean), rel=1e-7, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 8), seed=SEEDS)
def test_imtl_g_has_equal_projections(n, seed):
    g = gradients(n, seed)
    alpha = solvers.imtl_g(g @ g.T)
    projections = (g @ (alpha @ g)) / np.linalg.norm(g, axis=1)
    assert alpha.sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(projections, projections[0], atol=1e-8 * abs(g).max())


def test_imtl_g_as_the_authors_write_it():
    g = gradients(4, 7)
    u = g / np.linalg.norm(g, axis=1, keepdims=True)
    difference, units = g[0] - g[1:], u[0] - u[1:]
    others = g[0] @ units.T @ np.linalg.inv(difference @ units.T)
    alpha = solvers.imtl_g(g @ g.T)
    np.testing.assert_allclose(alpha, [1 - others.sum(), *others], rtol=1e-8)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 11), seed=SEEDS)
def test_nash_solves_its_equation(n, seed):
    g = gradients(n, seed, spread=5, length=40)
    gram = g @ g.T
    alpha = solvers.nash(gram)
    assert (alpha > 0).all()
    np.testing.assert_allclose(alpha * (gram @ alpha), 1, rtol=1e-8)


def test_nash_of_orthogonal_gradients_is_inverse_length():
    squares = np.array([1e-6, 4.0, 9e6])
    np.testing.assert_allclose(solvers.nash(np.diag(squares)), squares**-0.5, rtol=1e-9)


def test_nash_minimises_its_convex_function():
    g = gradients(5, 3, spread=1)
    gram = g @ g.T

    def objective(log_a):
        return np.exp(log_a) @ gram @ np.exp(log_a) / 2 - log_a.sum()

    found = minimize(objective, np.zeros(5), tol=1e-12)
    np.testing.assert_allclose(solvers.nash(gram), np.exp(found.x), rtol=1e-4)


def literal_nash(gram, n_iter=20):
    """The authors' sequence of convex problems, by Clarabel: cvxpy no longer brings their ECOS."""
    n, norm = len(gram), np.linalg.norm(gram)
    unit, last = gram / norm, np.ones(n)
    for _ in range(n_iter):
        a = cp.Variable(n, nonneg=True)
        slope = 1 / last + (1 / (unit @ last)) @ unit
        constraints = [-cp.log(a[i] * norm) - cp.log(unit[i] @ a) <= 0 for i in range(n)]
        goal = cp.sum(unit @ a) + slope @ (a - last) / norm
        cp.Problem(cp.Minimize(goal), constraints).solve(solver="CLARABEL")
        if np.linalg.norm(a.value - last) < 1e-6:
            break
        last = a.value
    return last


@pytest.mark.parametrize("seed", range(3))
def test_nash_is_the_limit_of_the_authors_sequence(seed):
    g = gradients(3, seed, spread=0.5)
    np.testing.assert_allclose(solvers.nash(g @ g.T), literal_nash(g @ g.T), rtol=1e-3)


def literal_pcgrad(g, order):
    total = np.zeros(g.shape[1])
    for i, met in enumerate(order):
        own = g[i].copy()
        for j in met:
            if own @ g[j] < 0:
                own -= own @ g[j] / (g[j] @ g[j]) * g[j]
        total += own
    return total


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 6), length=st.sampled_from([2, 3, 10]), seed=SEEDS)
@example(n=3, length=2, seed=0)
def test_pcgrad_is_the_literal_loop(n, length, seed):
    g = gradients(n, seed, spread=1, length=length)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (n, 1)), axis=1)
    np.testing.assert_allclose(
        solvers.pcgrad(g @ g.T, order) @ g, literal_pcgrad(g, order), atol=1e-9 * abs(g).max()
    )


def test_pcgrad_of_three_by_hand():
    # g_1 and g_2 conflict: <g_1, g_2> = -1; g_3 is orthogonal to both.
    g = np.array([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    order = np.tile(np.arange(3), (3, 1))
    # g_1 becomes (1, 0) + (-1, 1) / 2 = (1/2, 1/2), g_2 becomes (0, 1).
    np.testing.assert_allclose(solvers.pcgrad(g @ g.T, order) @ g, [0.5, 1.5, 2.0])


SINGULAR = {
    "zero": np.zeros((3, 3)),
    "one_zero": np.diag([1.0, 0.0, 4.0]),
    "identical": np.ones((3, 3)),
    "opposite": OPPOSITE,
    "spanning_zero": np.array([[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]),
    "tiny": 1e-200 * np.ones((2, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SINGULAR)
def test_singular_matrices_give_finite_weights(name):
    gram = SINGULAR[name]
    order = np.tile(np.arange(len(gram)), (len(gram), 1))
    for weights in (
        solvers.min_norm(gram),
        solvers.cagrad(gram, 0.4),
        solvers.imtl_g(gram),
        solvers.pcgrad(gram, order),
    ):
        assert weights.shape == (len(gram),)
        assert np.isfinite(weights).all()
    assert solvers.min_norm(gram).sum() == pytest.approx(1)
    bounded = name in ("identical", "tiny")
    alpha = solvers.nash(gram)
    assert (alpha is not None) == bounded
    if alpha is not None:
        np.testing.assert_allclose(alpha * (gram @ alpha), 1, rtol=1e-8)
