"""Batches as machine code: every matrix has what it has alone."""

import numpy as np
import pytest

from retable.papers.risk_parity import compiled_batch, solvers
from retable.papers.risk_parity.matrices import random_correlation

SIGMA = np.linspace(0.1, 0.5, 12)
PAIRS = {
    "improved": (compiled_batch.ccd_improved_batch, solvers.ccd_improved, {}),
    "no rescaling": (compiled_batch.ccd_improved_batch, solvers.ccd_improved, {"rescale": False}),
    "original": (compiled_batch.ccd_original_batch, solvers.ccd_original, {}),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


@pytest.fixture(scope="module")
def covs():
    rng = np.random.default_rng(1)
    cors = [random_correlation(12, test, rng) for test in (1, 2) for _ in range(6)]
    return np.stack([*cors, np.eye(12)]) * np.outer(SIGMA, SIGMA)


@every_pair
@pytest.mark.parametrize("own_budgets", [False, True])
@pytest.mark.parametrize("cap", [1023, 3])
def test_every_matrix_has_what_it_has_alone(pair, own_budgets, cap, covs):
    batch, single, options = pair
    b = np.random.default_rng(4).uniform(0.1, 1.0, (13, 12))
    b = b / b.sum(axis=1, keepdims=True) if own_budgets else None
    solution = batch(covs, b, max_sweeps=cap, **options)
    for k, cov in enumerate(covs):
        alone = single(
            cov, None if b is None else b[k], max_sweeps=cap, implementation="compiled", **options
        )
        assert solution.weights[k].numpy().tobytes() == alone.weights.tobytes()
        assert int(solution.n_iter[k]) == alone.n_iter
        assert float(solution.error[k]) == alone.error
        assert bool(solution.converged[k]) == alone.converged
    assert cap == 3 or len(set(solution.n_iter.tolist())) > 1


@every_pair
def test_however_the_matrices_lie_in_memory(pair, covs):
    batch, _, options = pair
    strided = np.ascontiguousarray(np.swapaxes(covs, 0, 2)).swapaxes(0, 2)
    frozen = covs.copy()
    frozen.flags.writeable = False
    for other in (strided, frozen):
        assert (batch(other, **options).n_iter == batch(covs, **options).n_iter).all()


@every_pair
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"covs": np.eye(3)}, r"covs must be a batch \(B, N, N\); got shape \(3, 3\)"),
        ({"covs": np.zeros((0, 2, 2))}, "must be a batch"),
        ({"covs": np.stack([np.eye(2), -np.eye(2)])}, r"covs\[1\]"),
        ({"covs": np.stack([np.eye(2), np.full((2, 2), np.nan)])}, r"covs\[1\]"),
        ({"budgets": np.full((3, 2), 0.5)}, "budgets must have a row per matrix, 2; got 3"),
        ({"budgets": np.array([[0.5, 0.5], [1.5, -0.5]])}, r"budgets\[1\]"),
        ({"signs": [1, 0]}, "signs"),
        ({"tol": 0.0}, "tol must be positive"),
        ({"max_sweeps": 0}, "max_sweeps"),
    ],
)
def test_wrong_input_is_refused_by_name(pair, change, message):
    batch, _, _ = pair
    options = {"covs": np.stack([np.eye(2), np.eye(2)]), **change}
    with pytest.raises(ValueError, match=message):
        batch(options.pop("covs"), **options)


def test_no_published_number_depends_on_it():
    """It may be improved without making a record stale."""
    from retable.runs.identity import modules_of

    closure = modules_of(["retable.papers.risk_parity.module.RiskParity"])
    assert "retable.papers.risk_parity.compiled" in closure
    assert "retable.papers.risk_parity.compiled_batch" not in closure
