"""The five-asset example of Bai et al. (2016): what the authors' notebook and class print."""

import numpy as np
import pytest
import torch

from retable.papers.risk_parity import solvers
from retable.papers.risk_parity.literal import correlation
from retable.papers.risk_parity.matrices import bai2016

IMPLEMENTATIONS = ["literal", "compiled"]
IMPROVED_ERROR = 2.2697290741335863e-07
ORIGINAL_ERROR = 7.886915636690084e-07

PRINTED = {
    "long": (None, None, [0.125, 0.047, 0.083, 0.613, 0.132]),
    "short 1": (None, [-1, 1, 1, 1, 1], [-0.223, 0.074, 0.125, 0.820, 0.204]),
    "short 2": (None, [1, -1, 1, 1, 1], [0.157, -0.128, 0.124, 0.538, 0.309]),
    "short 3": (None, [1, 1, -1, 1, 1], [0.154, 0.073, -0.285, 0.717, 0.341]),
    "budgets": ([0.1, 0.1, 0.2, 0.3, 0.3], None, [0.077, 0.025, 0.074, 0.648, 0.176]),
    "short 1, 2": (None, [-1, -1, 1, 1, 1], [-0.216, -0.162, 0.182, 0.726, 0.470]),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_improved_takes_6_sweeps_to_the_printed_error(implementation):
    solution = solvers.ccd_improved(bai2016(), implementation=implementation)
    assert solution.n_iter == 6
    assert solution.error == pytest.approx(IMPROVED_ERROR, rel=1e-6)
    assert solution.converged


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_original_takes_11_sweeps_to_the_printed_error(implementation):
    solution = solvers.ccd_original(bai2016(), implementation=implementation)
    assert solution.n_iter == 11
    assert solution.error == pytest.approx(ORIGINAL_ERROR, rel=1e-6)
    assert solution.converged


def test_batched_forms_take_the_same_sweeps_to_the_same_errors():
    batch = torch.from_numpy(np.stack([bai2016(), np.eye(5)]))
    improved, original = solvers.ccd_improved_batched(batch), solvers.ccd_original_batched(batch)
    assert improved.n_iter[0] == 6
    assert float(improved.error[0]) == pytest.approx(IMPROVED_ERROR, rel=1e-6)
    assert original.n_iter[0] == 11
    assert float(original.error[0]) == pytest.approx(ORIGINAL_ERROR, rel=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_each_of_the_two_changes_alone(implementation):
    cor, _ = correlation(bai2016())
    assert solvers.ccd_original(cor, implementation=implementation).n_iter == 10
    alone = solvers.ccd_improved(bai2016(), implementation=implementation, rescale=False)
    assert alone.n_iter == 5
    assert alone.converged


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", PRINTED)
def test_printed_weights(case, implementation):
    budgets, signs, expected = PRINTED[case]
    for solve in (solvers.ccd_improved, solvers.ccd_original):
        solution = solve(bai2016(), budgets, signs=signs, implementation=implementation)
        assert solution.converged
        np.testing.assert_allclose(solution.weights, expected, atol=6e-4)


@pytest.mark.parametrize("case", PRINTED)
def test_printed_weights_batched(case):
    budgets, signs, expected = PRINTED[case]
    batch = torch.from_numpy(bai2016())[None]
    for solve in (solvers.ccd_improved_batched, solvers.ccd_original_batched):
        np.testing.assert_allclose(
            solve(batch, budgets, signs=signs).weights[0], expected, atol=6e-4
        )


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        (None, [0.12450543, 0.04666153, 0.08328301, 0.61329904, 0.13225098]),
        ([0.1, 0.1, 0.2, 0.3, 0.3], [0.07673888, 0.02451292, 0.07397419, 0.64847081, 0.17630319]),
    ],
)
def test_eight_digits_at_tolerance_1e_13(budgets, expected):
    cov = bai2016()
    found = [
        solvers.ccd_improved(cov, budgets, tol=1e-13),
        solvers.ccd_improved(cov, budgets, tol=1e-13, implementation="compiled"),
        solvers.ccd_original(cov, budgets, tol=1e-13),
        solvers.ccd_original(cov, budgets, tol=1e-13, implementation="compiled"),
        solvers.newton(cov, budgets, tol=1e-10),
        solvers.newton(cov, budgets, tol=1e-13, method="pure"),
        solvers.newton(cov, budgets, tol=1e-13, method="damped", guess="plain"),
    ]
    for solution in found:
        assert solution.converged
        np.testing.assert_allclose(solution.weights, expected, atol=6e-9)


def test_jacobi_updates_are_told_apart_by_the_count():
    cor, _ = correlation(bai2016())
    w, count, error = np.full(5, cor.sum() ** -0.5), 0, np.inf
    while not error < 1e-6:
        count += 1
        a = 0.5 * (cor @ w - w)
        w = np.sqrt(a * a + 0.2) - a
        w /= np.sqrt(w @ cor @ w)
        error = np.max(np.abs(w * (cor @ w) - 0.2))
    assert count > 6


def test_short_assets_have_negative_weights_and_meet_their_budgets():
    signs = [-1, -1, 1, 1, 1]
    weights = solvers.ccd_improved(bai2016(), signs=signs).weights
    np.testing.assert_array_equal(np.sign(weights), signs)
    np.testing.assert_allclose(solvers.risk_shares(bai2016(), weights), 0.2, atol=1e-6)
