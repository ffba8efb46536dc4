"""Batches of matrices: each one stops by itself, as if it had been solved alone."""

import numpy as np
import pytest
import torch

from retable.papers.risk_parity import solvers
from retable.papers.risk_parity.matrices import bai2016, notebook_correlation

SIGMA = np.linspace(0.1, 0.5, 25)


@pytest.fixture(scope="module")
def covs():
    cors = [notebook_correlation(25, test, k, sizes=(25,)) for test in (1, 2) for k in range(8)]
    return np.stack([*cors, np.eye(25)]) * np.outer(SIGMA, SIGMA)


@pytest.fixture(scope="module")
def budgets():
    b = np.random.default_rng(4).uniform(0.1, 1.0, (17, 25))
    return b / b.sum(axis=1, keepdims=True)


def devices():
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


PAIRS = {
    "improved": (solvers.ccd_improved_batched, solvers.ccd_improved, {}),
    "no rescaling": (solvers.ccd_improved_batched, solvers.ccd_improved, {"rescale": False}),
    "original": (solvers.ccd_original_batched, solvers.ccd_original, {}),
    "pure": (solvers.newton_batched, solvers.newton, {"method": "pure"}),
    "damped": (solvers.newton_batched, solvers.newton, {"method": "damped", "guess": "plain"}),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


@pytest.mark.slow
@every_pair
@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("own_budgets", [False, True])
def test_batched_equals_single_at_each_matrix_own_stop(pair, device, own_budgets, covs, budgets):
    batched, single, options = pair
    if own_budgets and options.get("method") == "pure":
        options = options | {"max_sweeps": 60}  # some diverge, and alone stop at once
    b = budgets if own_budgets else None
    solution = batched(torch.from_numpy(covs).to(device), b, **options)
    assert solution.weights.device.type == device
    assert solution.weights.dtype == torch.float64
    for k, cov in enumerate(covs):
        alone = single(cov, None if b is None else b[k], **options)
        assert int(solution.n_iter[k]) == alone.n_iter
        assert bool(solution.converged[k]) == alone.converged
        assert float(solution.error[k]) == pytest.approx(alone.error, rel=1e-6, abs=1e-12)
        np.testing.assert_allclose(solution.weights[k].cpu(), alone.weights, rtol=0, atol=1e-12)
    assert len(set(solution.n_iter.tolist())) > 1


@pytest.mark.slow
@every_pair
def test_matrices_that_do_not_converge_are_told_apart(pair, covs):
    batched, single, options = pair
    cap = max(single(cov, **options).n_iter for cov in covs) - 1
    solution = batched(torch.from_numpy(covs), max_sweeps=cap, **options)
    assert not solution.converged.all()
    assert solution.converged.any()
    assert (solution.n_iter[~solution.converged] == cap).all()
    for k, cov in enumerate(covs):
        alone = single(cov, max_sweeps=cap, **options)
        assert bool(solution.converged[k]) == alone.converged
        np.testing.assert_allclose(solution.weights[k], alone.weights, rtol=0, atol=1e-12)


def test_signs_per_matrix():
    batch = torch.from_numpy(np.stack([bai2016(), bai2016()]))
    signs = [[1, 1, 1, 1, 1], [-1, 1, 1, 1, 1]]
    for batched, single in (
        (solvers.ccd_improved_batched, solvers.ccd_improved),
        (solvers.ccd_original_batched, solvers.ccd_original),
    ):
        solution = batched(batch, signs=torch.tensor(signs))
        for k in range(2):
            alone = single(bai2016(), signs=signs[k])
            assert int(solution.n_iter[k]) == alone.n_iter
            np.testing.assert_allclose(solution.weights[k], alone.weights, rtol=0, atol=1e-13)


def test_the_covariances_are_not_written_to(covs):
    batch = torch.from_numpy(covs.copy())
    for batched, _, options in PAIRS.values():
        batched(batch, **options)
    np.testing.assert_array_equal(batch, covs)


def with_entry(value, *index):
    batch = torch.from_numpy(np.stack([bai2016(), bai2016()]))
    batch[index] = value
    return batch


@pytest.mark.parametrize(
    ("cov", "options", "message"),
    [
        (torch.eye(3), {}, r"batch \(B, N, N\).*\(3, 3\)"),
        (torch.ones(2, 3, 4), {}, r"\(2, 3, 4\)"),
        (torch.ones(0, 3, 3), {}, r"\(0, 3, 3\)"),
        (with_entry(torch.nan, 1, 0, 2), {}, r"cov\[1\]\[0, 2\] is nan"),
        (with_entry(torch.inf, 1, 4, 4), {}, r"cov\[1\]\[4, 4\] is inf"),
        (with_entry(-1.0, 1, 3, 3), {}, r"cov\[1\]\[3, 3\] = -1.0"),
        (with_entry(0.5, 1, 3, 2), {}, r"cov\[1\] is not symmetric: cov\[1\]\[2, 3\]"),
        (with_entry(0.01, 0, 0, 0), {"budgets": [0.5, 0.5]}, r"shape \(5,\)"),
        (with_entry(0.01, 0, 0, 0), {"budgets": [[0.2] * 5]}, "a row per matrix, 2"),
        (
            with_entry(0.01, 0, 0, 0),
            {"budgets": [[0.2] * 5, [0.3, -0.1, 0.2, 0.2, 0.4]]},
            r"budgets\[1\]\[1\]",
        ),
        (with_entry(0.01, 0, 0, 0), {"signs": [1, 1, 0, 1, 1]}, r"signs\[2\] = 0"),
        (with_entry(0.01, 0, 0, 0), {"tol": 0.0}, "tol"),
        (with_entry(0.01, 0, 0, 0), {"max_sweeps": 0}, "max_sweeps"),
    ],
)
def test_value_errors_name_the_matrix(cov, options, message):
    for batched in (solvers.ccd_improved_batched, solvers.ccd_original_batched):
        with pytest.raises(ValueError, match=message):
            batched(cov, **options)


def test_newton_batched_rejects_other_variants():
    batch = torch.eye(3)[None]
    with pytest.raises(ValueError, match="hybr"):
        solvers.newton_batched(batch, method="hybr")
    with pytest.raises(ValueError, match="guess"):
        solvers.newton_batched(batch, guess="best")
