"""Kinds of input, refusals, and results that did not converge."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from retable.papers import risk_parity
from retable.papers.risk_parity import solvers
from retable.papers.risk_parity.matrices import bai2016

SOLVERS = {
    "improved": solvers.ccd_improved,
    "improved compiled": lambda *a, **k: solvers.ccd_improved(*a, implementation="compiled", **k),
    "original": solvers.ccd_original,
    "original compiled": lambda *a, **k: solvers.ccd_original(*a, implementation="compiled", **k),
    "newton": solvers.newton,
}
every_solver = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS.keys())


@every_solver
def test_a_tensor_gives_a_tensor(solve):
    expected = solve(bai2016())
    cov = torch.from_numpy(bai2016()).requires_grad_()
    budgets = torch.full((5,), 0.2, dtype=torch.float64)
    solution = solve(cov, budgets)
    assert isinstance(solution.weights, torch.Tensor)
    assert solution.weights.dtype == torch.float64
    assert solution.n_iter == expected.n_iter
    np.testing.assert_array_equal(solution.weights, expected.weights)


@every_solver
def test_float32_and_integers_are_computed_in_float64(solve):
    for cov in (
        bai2016().astype(np.float32),
        torch.from_numpy(bai2016()).float(),
        np.array([[4, 1], [1, 9]]),
        torch.tensor([[4, 1], [1, 9]]),
    ):
        solution = solve(cov, tol=1e-10)
        assert solution.converged
        assert str(solution.weights.dtype).endswith("float64")
        np.testing.assert_allclose(
            solvers.risk_shares(np.asarray(cov), np.asarray(solution.weights)),
            1 / len(cov),
            atol=1e-8,
        )


@every_solver
def test_memory_layout_does_not_matter_and_nothing_is_written_to(solve):
    expected = solve(bai2016()).weights
    frozen = bai2016()
    frozen.flags.writeable = False
    wide = np.zeros((10, 10))
    wide[::2, ::2] = bai2016()
    for cov in (frozen, np.asfortranarray(bai2016()), wide[::2, ::2]):
        np.testing.assert_allclose(solve(cov).weights, expected, rtol=1e-14)
    budgets = np.full(5, 0.2)
    budgets.flags.writeable = False
    np.testing.assert_array_equal(solve(bai2016(), budgets).weights, expected)


@every_solver
def test_not_converged_is_said(solve):
    solution = solve(bai2016(), max_sweeps=3)
    assert not solution.converged
    assert solution.n_iter >= 3
    assert solution.error > 0
    assert solution.weights.sum() == pytest.approx(1.0)


def test_sweeps_are_capped_exactly():
    for name in list(SOLVERS)[:4]:
        solution = SOLVERS[name](bai2016(), max_sweeps=3)
        assert solution.n_iter == 3
        assert solution.error >= 1e-6


@pytest.mark.parametrize("implementation", ["literal", "compiled"])
def test_an_impossible_tolerance_runs_to_the_cap(implementation):
    solution = solvers.ccd_improved(bai2016(), tol=1e-30, implementation=implementation)
    assert (solution.n_iter, solution.converged) == (1023, False)
    assert np.isfinite(solution.weights).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("implementation", ["literal", "compiled"])
def test_nan_never_counts_as_converged(implementation):
    # Unchecked, an indefinite matrix makes the start or the volatility a NaN.
    cov = np.array([[1.0, -3.0], [-3.0, 1.0]])
    for solve in (solvers.ccd_improved, solvers.ccd_original):
        solution = solve(cov, check=False, implementation=implementation, max_sweeps=50)
        assert not solution.converged
        assert solution.n_iter == 50


def changed(value, *index):
    cov = bai2016()
    cov[index] = value
    return cov


@pytest.mark.slow
@every_solver
@pytest.mark.parametrize(
    ("cov", "message"),
    [
        (np.ones((5, 4)), r"square.*\(5, 4\)"),
        (np.ones(5), r"square.*\(5,\)"),
        (np.ones((2, 5, 5)), r"square.*\(2, 5, 5\)"),
        (np.ones((0, 0)), r"square.*\(0, 0\)"),
        (changed(0.5, 1, 3), r"not symmetric: cov\[1, 3\] = 0.5 but cov\[3, 1\] = -0.00079"),
        (changed(np.nan, 4, 2), r"cov\[4, 2\] is nan"),
        (changed(-np.inf, 0, 1), r"cov\[0, 1\] is -inf"),
        (changed(np.inf, 3, 3), r"cov\[3, 3\] is inf"),
        (changed(np.nan, 0, 0), r"cov\[0, 0\] is nan"),
        (changed(0.0, 2, 2), r"variance cov\[2, 2\] = 0.0 is not positive"),
        (changed(-1.0, 2, 2), r"variance cov\[2, 2\] = -1.0 is not positive"),
        (np.array([[1.0, -1.0], [-1.0, 1.0]]), "no risk"),
        (np.array([[1.0, -3.0], [-3.0, 1.0]]), "not positive semi-definite"),
    ],
)
def test_value_error_for_the_covariance(solve, cov, message):
    with pytest.raises(ValueError, match=message):
        solve(cov)


@every_solver
@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ([0.25] * 4, r"shape \(5,\) as cov; got \(4,\)"),
        (np.full((1, 5), 0.2), r"got \(1, 5\)"),
        ([0.5, 0.5, 0.0, 0.5, 0.5], r"budgets\[2\] = 0.0 is not positive"),
        ([0.5, 0.5, 0.5, -0.5, 0.0], r"budgets\[3\] = -0.5"),
        ([0.5, np.nan, 0.2, 0.2, 0.1], r"budgets\[1\] = nan"),
        ([0.5, 0.25, 0.25, 0.25, 0.25], "sum to 1; got a sum of 1.5"),
    ],
)
def test_value_error_for_the_budgets(solve, budgets, message):
    with pytest.raises(ValueError, match=message):
        solve(bai2016(), budgets)


@every_solver
def test_value_error_for_the_stop_rule(solve):
    for tol in (0.0, -1e-6, np.nan, np.inf):
        with pytest.raises(ValueError, match="tol must be positive"):
            solve(bai2016(), tol=tol)
    with pytest.raises(ValueError, match="max_sweeps must be at least 1"):
        solve(bai2016(), max_sweeps=0)


@pytest.mark.parametrize("solve", [solvers.ccd_improved, solvers.ccd_original])
def test_value_error_for_the_signs(solve):
    for signs, message in (
        ([1, 0, 1, 1, 1], r"signs\[1\] = 0 is neither"),
        ([1, 1, 1, 2, 1], r"signs\[3\] = 2 is neither"),
        ([1, 1], r"shape \(5,\)"),
        (1, r"shape \(5,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            solve(bai2016(), signs=signs)


def test_value_error_for_unknown_names():
    with pytest.raises(ValueError, match="implementation"):
        solvers.ccd_improved(bai2016(), implementation="fast")
    with pytest.raises(ValueError, match="guess"):
        solvers.newton(bai2016(), guess="best")
    with pytest.raises(ValueError, match="method"):
        solvers.newton(bai2016(), method="broyden")


def test_rounding_errors_pass_as_symmetric():
    cov = bai2016()
    cov[0, 1] *= 1 + 4e-16
    assert solvers.ccd_improved(cov).converged
    assert solvers.ccd_improved(cov, implementation="compiled").converged


def test_compiled_without_numba_names_the_extra(monkeypatch):
    solvers._kernels.cache_clear()  # another test may have had them
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "retable.papers.risk_parity.compiled", raising=False)
    monkeypatch.delattr(risk_parity, "compiled", raising=False)
    with pytest.raises(ImportError, match=r"retable\[risk-parity\]"):
        solvers.ccd_original(bai2016(), implementation="compiled")
    assert solvers.ccd_original(bai2016()).converged


@pytest.mark.slow
def test_importing_the_solvers_does_not_import_numba():
    code = "import sys, retable.papers.risk_parity.solvers; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
