"""Random correlation matrices, the notebook's stream, and the mean counts on it."""

import numpy as np
import pytest

from retable.papers.risk_parity import solvers
from retable.papers.risk_parity.matrices import (
    NOTEBOOK_SIZES,
    bai2016,
    notebook_correlation,
    random_correlation,
)

# Mean counts over the notebook's first 20 matrices, per (test, N): sweeps of the original and of
# the improved method, of the latter without rescaling, residual evaluations of hybr, full steps.
# Own computation (NumPy 2.4, SciPy 1.17), not printed by the authors.
MEANS = {
    (1, 25): (18.75, 9.60, 11.80, 11.35, 3.20),
    (1, 50): (15.80, 9.15, 10.35, 11.15, 3.00),
    (1, 100): (16.10, 9.50, 11.00, 12.15, 3.05),
    (2, 25): (90.45, 25.15, 62.40, 15.35, 4.25),
    (2, 50): (57.50, 21.95, 41.85, 18.90, 4.25),
    (2, 100): (48.55, 23.85, 35.60, 17.60, 4.25),
}


def replay(sizes, test, n_matrices, seed):
    """The notebook's loop as it stands: one generator for all N."""
    rng = np.random.RandomState(seed)
    return {n: [random_correlation(n, test, rng) for _ in range(n_matrices)] for n in sizes}


@pytest.mark.parametrize("test", [1, 2])
def test_skipping_through_the_stream_gives_bitwise_the_replayed_matrices(test):
    # Odd sizes leave half a pair of normal numbers in the generator.
    sizes = (5, 12, 25, 9)
    expected = replay(sizes, test, 3, 77)
    for n in sizes:
        for index in (0, 1, 2):
            found = notebook_correlation(n, test, index, sizes=sizes, n_matrices=3, seed=77)
            np.testing.assert_array_equal(found, expected[n][index])


def test_the_stream_is_that_of_numpys_global_generator():
    np.random.seed(123456)
    np.testing.assert_array_equal(
        notebook_correlation(25, 1, 0), random_correlation(25, 1, np.random.mtrand._rand)
    )


def test_matrices_depend_on_test_size_and_index():
    first = notebook_correlation(25, 1, 0)
    for other in (notebook_correlation(25, 1, 1), notebook_correlation(25, 2, 0)):
        assert np.abs(first - other).max() > 0.1
    assert notebook_correlation(50, 1, 0, sizes=(50,))[1, 0] != notebook_correlation(50, 1, 0)[1, 0]


@pytest.mark.parametrize("generator", [np.random.default_rng, np.random.RandomState])
@pytest.mark.parametrize("test", [1, 2])
def test_entries_went_through_float32_and_the_diagonal_is_one(generator, test):
    cor = random_correlation(30, test, generator(3))
    assert cor.dtype == np.float64
    np.testing.assert_array_equal(cor, cor.astype(np.float32))
    np.testing.assert_array_equal(cor, cor.T)
    np.testing.assert_array_equal(cor.diagonal(), 1.0)


@pytest.mark.parametrize("n_assets", [25, 33, 4])
def test_test_2_has_a_fifth_of_zero_eigenvalues_rounded_down(n_assets):
    cor = random_correlation(n_assets, 2, np.random.default_rng(0))
    eigenvalues = np.linalg.eigvalsh(cor)
    # float32 storage moves the zeros by about 1e-7.
    assert (np.abs(eigenvalues) < 1e-6).sum() == n_assets // 5
    assert eigenvalues.sum() == pytest.approx(n_assets)


@pytest.mark.parametrize("n_assets", [30, 61])
def test_singular_matrices_are_solved_by_all(n_assets):
    cor = random_correlation(n_assets, 2, np.random.default_rng(8))
    reference = solvers.ccd_improved(cor, tol=1e-11).weights
    for solution in (
        solvers.ccd_improved(cor),
        solvers.ccd_improved(cor, implementation="compiled"),
        solvers.ccd_improved(cor, rescale=False),
        solvers.ccd_original(cor),
        solvers.ccd_original(cor, implementation="compiled"),
        solvers.newton(cor),
        solvers.newton(cor, method="pure"),
        solvers.newton(cor, method="damped", guess="plain"),
    ):
        assert solution.converged
        np.testing.assert_allclose(solution.weights, reference, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("case", MEANS, ids=lambda case: f"test{case[0]}-n{case[1]}")
def test_mean_counts_on_the_notebooks_stream(case):
    test, n_assets = case
    original, improved, without, hybr, pure = MEANS[case]
    matrices = [notebook_correlation(n_assets, test, index) for index in range(20)]

    def mean(solve, **options):
        found = [solve(cor, **options) for cor in matrices]
        assert all(solution.converged for solution in found)
        return np.mean([solution.n_iter for solution in found])

    fast = {"implementation": "compiled"}
    assert mean(solvers.ccd_original, **fast) == pytest.approx(original, abs=0.6)
    assert mean(solvers.ccd_improved, **fast) == pytest.approx(improved, abs=0.6)
    assert mean(solvers.ccd_improved, rescale=False, **fast) == pytest.approx(without, abs=0.6)
    assert mean(solvers.newton, method="pure") == pytest.approx(pure, abs=0.6)
    assert mean(solvers.newton) == pytest.approx(hybr, abs=3.0)  # depends on SciPy's version


def test_bai2016_is_a_fresh_symmetric_matrix():
    cov = bai2016()
    np.testing.assert_array_equal(cov, cov.T)
    assert cov[1, 1] == pytest.approx(0.0445642)
    cov[0, 0] = 1.0
    assert bai2016()[0, 0] != 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((26, 1, 0), "n_assets=26"),
        ((25, 1, 20), "index=20"),
        ((25, 1, -1), "index=-1"),
        ((25, 3, 0), "test must be 1 or 2"),
    ],
)
def test_notebook_correlation_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        notebook_correlation(*arguments)


def test_random_correlation_rejects_one_asset():
    with pytest.raises(ValueError, match="at least 2"):
        random_correlation(1, 1, np.random.default_rng(0))


def test_sizes_of_the_notebook():
    assert (*range(25, 201, 25), 250, 300, 400, 500, 600) == NOTEBOOK_SIZES
