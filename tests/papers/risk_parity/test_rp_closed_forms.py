"""Cases with an exact solution, for every solver."""

import numpy as np
import pytest

from retable.papers.risk_parity import solvers
from retable.papers.risk_parity.closed_forms import inverse_vol, two_assets

SOLVERS = {
    "improved": lambda c, b=None: solvers.ccd_improved(c, b, tol=1e-13),
    "improved compiled": lambda c, b=None: solvers.ccd_improved(
        c, b, tol=1e-13, implementation="compiled"
    ),
    "original": lambda c, b=None: solvers.ccd_original(c, b, tol=1e-13),
    "original compiled": lambda c, b=None: solvers.ccd_original(
        c, b, tol=1e-13, implementation="compiled"
    ),
    "pure": lambda c, b=None: solvers.newton(c, b, tol=1e-13, method="pure"),
    "damped": lambda c, b=None: solvers.newton(c, b, tol=1e-13, method="damped", guess="plain"),
    "hybr": lambda c, b=None: solvers.newton(c, b, tol=1e-10),
}
every_solver = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS.keys())

SIGMA = np.array([0.05, 0.2, 0.11, 0.4])
BUDGETS = np.array([0.4, 0.3, 0.2, 0.1])


@every_solver
def test_i_diagonal_covariance_gives_root_budget_over_volatility(solve):
    cov = np.diag(SIGMA**2)
    expected = np.sqrt(BUDGETS) / SIGMA
    np.testing.assert_allclose(solve(cov, BUDGETS).weights, expected / expected.sum(), rtol=1e-9)
    np.testing.assert_allclose(inverse_vol(cov, BUDGETS), expected / expected.sum(), rtol=1e-14)


@every_solver
@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.5, 0.95])
def test_ii_one_common_correlation_gives_inverse_volatility(solve, rho):
    cov = np.where(np.eye(4), 1.0, rho) * np.outer(SIGMA, SIGMA)
    np.testing.assert_allclose(solve(cov).weights, inverse_vol(cov), rtol=1e-9)


@every_solver
@pytest.mark.parametrize("rho", [-0.9, -0.2, 0.7])
def test_iii_two_assets_with_equal_budgets_give_inverse_volatility(solve, rho):
    cov = np.array([[0.04, rho * 0.06], [rho * 0.06, 0.09]])
    np.testing.assert_allclose(solve(cov).weights, [0.6, 0.4], rtol=1e-9)


@every_solver
@pytest.mark.parametrize(
    ("b", "rho", "sigma"),
    [(0.3, -0.4, (0.2, 0.35)), (0.3, -0.4, (1.0, 1.0)), (0.9, 0.8, (0.1, 0.02))],
)
def test_iv_two_assets_with_any_budgets(solve, b, rho, sigma):
    cross = rho * sigma[0] * sigma[1]
    cov = np.array([[sigma[0] ** 2, cross], [cross, sigma[1] ** 2]])
    np.testing.assert_allclose(
        solve(cov, [b, 1 - b]).weights, two_assets(b, rho, *sigma), rtol=1e-9
    )


def test_iv_number_and_formula():
    assert two_assets(0.3, -0.4, 0.2, 0.35)[0] == pytest.approx(0.57680382812915, abs=1e-14)
    for b, rho, s1, s2 in [(0.3, -0.4, 0.2, 0.35), (0.7, 0.5, 0.3, 0.1), (0.55, 0.9, 1.0, 2.0)]:
        h = b - 0.5
        numerator = h * rho * s1 * s2 - b * s2**2 + s1 * s2 * np.sqrt(h**2 * rho**2 + b * (1 - b))
        denominator = (1 - b) * s1**2 - b * s2**2 + 2 * h * rho * s1 * s2
        assert two_assets(b, rho, s1, s2)[0] == pytest.approx(numerator / denominator, rel=1e-12)


def test_iv_where_the_fraction_is_0_over_0():
    assert two_assets(0.5, 0.3, 0.2, 0.2) == (0.5, 0.5)
    with pytest.raises(ValueError, match="out of range"):
        two_assets(0.5, 1.0, 0.2, 0.2)


@pytest.mark.parametrize("implementation", ["literal", "compiled"])
def test_identity_takes_one_sweep_so_a_leaves_out_the_diagonal(implementation):
    solution = solvers.ccd_improved(np.eye(4), BUDGETS, implementation=implementation, tol=1e-14)
    assert solution.n_iter == 1
    np.testing.assert_allclose(
        solution.weights, np.sqrt(BUDGETS) / np.sqrt(BUDGETS).sum(), rtol=1e-15
    )


def test_identity_is_solved_by_the_improved_guess_itself():
    assert solvers.newton(np.eye(4), BUDGETS, method="pure").n_iter == 0


def test_one_asset():
    for solve in SOLVERS.values():
        np.testing.assert_allclose(solve(np.array([[0.04]])).weights, [1.0])


@pytest.mark.parametrize(
    ("cov", "budgets", "message"),
    [
        (np.ones((2, 3)), None, "square"),
        (np.diag([1.0, 0.0]), None, r"cov\[1, 1\]"),
        (np.eye(2), [1.0], "2 positive"),
        (np.eye(2), [1.5, -0.5], "2 positive"),
    ],
)
def test_inverse_vol_rejects(cov, budgets, message):
    with pytest.raises(ValueError, match=message):
        inverse_vol(cov, budgets)
