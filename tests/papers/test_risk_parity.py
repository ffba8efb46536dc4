"""The paper's module and data in the harness, and its tables against the reported numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from retable.data.base import DataPaths
from retable.papers.risk_parity import data as rp_data
from retable.papers.risk_parity.matrices import notebook_correlation
from retable.papers.risk_parity.module import SOLVERS, RiskParity, timed
from retable.papers.risk_parity.solvers import ccd_improved, ccd_original, newton
from retable.tables import spec
from retable.util.errors import UserError

MIRROR = os.environ.get("RETABLE_MIRROR")
FILE = "pyrb/data.csv"
# Computed with the method's formulas from the same file, not by this code.
REAL_EQUAL = (
    0.224478, 0.275145, 0.039225, 0.035893, 0.034282,
    0.029916, 0.054598, 0.071110, 0.152814, 0.082539,
)  # fmt: skip
REAL_BUDGETS = (
    0.245021, 0.304664, 0.037884, 0.064091, 0.061810,
    0.016443, 0.035707, 0.041859, 0.103390, 0.089131,
)  # fmt: skip
BUDGETS = [0.1, 0.1, 0.1, 0.2, 0.2, 0.05, 0.05, 0.05, 0.05, 0.1]


def paths(tmp_path: Path, mirror: str | Path | None = None) -> DataPaths:
    return DataPaths(tmp_path / "cache", Path(mirror) if mirror else None)


def solve(module: RiskParity, matrix: np.ndarray) -> dict[tuple[str, str, int | None], float]:
    module.test_step(torch.from_numpy(matrix), 0)
    return {(r.row, r.metric, r.step): r.value for r in module.results}


def test_one_run_gives_the_rows_of_all_solvers():
    matrix = rp_data.bai2016()
    results = solve(RiskParity(seed=0, solvers=list(SOLVERS), weights=True), matrix)
    assert {row for row, _, _ in results} == set(SOLVERS)
    assert results["improved", "test/n_iter", None] == 6
    assert results["original", "test/n_iter", None] == 11
    for name in SOLVERS:
        assert results[name, "test/converged", None] == 1
        assert results[name, "test/distance", None] < 2e-6
        weights = [results[name, "test/weight", asset] for asset in range(1, 6)]
        assert sum(weights) == pytest.approx(1)


def test_a_solver_that_does_not_converge_says_so_and_gives_no_count():
    results = solve(
        RiskParity(seed=0, solvers=["original", "improved"], max_sweeps=8), rp_data.bai2016()
    )
    assert results["original", "test/converged", None] == 0
    assert ("original", "test/n_iter", None) not in results
    assert results["improved", "test/n_iter", None] == 6


def test_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="no solver 'imprved'"):
        RiskParity(seed=0, solvers=["imprved"])


def test_timing_returns_the_first_solution_and_repeats_short_solves():
    calls = []
    solution, milliseconds = timed(lambda: calls.append(len(calls)) or ccd_improved(np.eye(3)))
    assert len(calls) == 5
    assert solution.n_iter == 1
    assert milliseconds > 0


def test_time_is_declared_as_timing():
    assert RiskParity.timing_metrics == {"test/time_ms"}


def test_matrices_of_seeds_are_different_and_repeatable(tmp_path):
    def draw(seed: int, **kwargs) -> np.ndarray:
        return rp_data.RandomCorrelation(seed=seed, paths=paths(tmp_path), **kwargs).covariance()

    assert np.array_equal(draw(0, n_assets=12), draw(0, n_assets=12))
    assert not np.array_equal(draw(0, n_assets=12), draw(1, n_assets=12))
    assert not np.array_equal(draw(0, n_assets=12), draw(0, n_assets=12, test=2))
    rank = np.linalg.matrix_rank(draw(3, n_assets=20, test=2), tol=1e-4)
    assert rank == 16


def test_notebook_stream_takes_the_matrix_of_that_number(tmp_path):
    module = rp_data.RandomCorrelation(
        seed=3, paths=paths(tmp_path), n_assets=50, test=2, stream="notebook"
    )
    assert np.array_equal(module.covariance(), notebook_correlation(50, 2, 3))


def test_loader_gives_the_matrix_in_float64(tmp_path):
    module = rp_data.RandomCorrelation(seed=0, paths=paths(tmp_path), n_assets=7)
    (batch,) = list(module.test_dataloader())
    assert batch.shape == (7, 7)
    assert batch.dtype == torch.float64
    assert np.array_equal(batch.numpy(), module.covariance())


def test_simple_returns_of_a_small_file(tmp_path):
    file = tmp_path / "prices.csv"
    file.write_text(";A;B\n01/01/2000;1;2\n02/01/2000;1.1;1\n03/01/2000;1.1;3\n", encoding="utf-8")
    np.testing.assert_allclose(rp_data.simple_returns(file), [[0.1, -0.5], [0.0, 2.0]])


@pytest.mark.parametrize(
    ("line", "message"), [("04/01/2000;x;1", "line 3"), ("04/01/2000;0;1", "line 3")]
)
def test_a_bad_level_names_its_line(tmp_path, line, message):
    file = tmp_path / "prices.csv"
    file.write_text(f";A;B\n01/01/2000;1;2\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        rp_data.simple_returns(file)


def test_altered_prices_are_refused(tmp_path):
    (tmp_path / "pyrb").mkdir()
    (tmp_path / FILE).write_text("not the prices", encoding="utf-8")
    module = rp_data.Prices(
        seed=0,
        paths=paths(tmp_path, tmp_path),
        file=FILE,
        url="http://127.0.0.1:9/",
        sha256="0" * 64,
    )
    with pytest.raises(UserError, match="truncated or altered"):
        module.prepare_data()


@pytest.fixture
def real(tmp_path) -> np.ndarray:
    if MIRROR is None or not (Path(MIRROR) / FILE).is_file():
        pytest.skip("needs the real prices: set RETABLE_MIRROR")
    node = json.loads(json.dumps(_prices_node()))
    return rp_data.Prices(seed=0, paths=paths(tmp_path, MIRROR), **node).covariance()


def _prices_node() -> dict[str, str]:
    from retable.config.compose import compose, hydra_ready

    with hydra_ready():
        data = dict(compose(["experiment=risk_parity/prices", "seed=0"]).data)
    data.pop("_target_")
    return data


def test_real_prices_give_the_known_weights_and_counts(real):
    for budgets, weights, counts in (
        (None, REAL_EQUAL, (7, 10, 3, 4)),
        (BUDGETS, REAL_BUDGETS, (7, 11, 3, 7)),
    ):
        found = [
            ccd_improved(real, budgets),
            ccd_original(real, budgets),
            newton(real, budgets, method="pure"),
            newton(real, budgets, method="pure", guess="plain"),
        ]
        assert tuple(s.n_iter for s in found) == counts
        exact = ccd_improved(real, budgets, tol=1e-13)
        np.testing.assert_allclose(exact.weights, weights, atol=6e-7)


def test_every_reported_cell_of_the_sources_is_in_the_tables():
    names = ("example_bai2016", "example_iterations", "iterations", "cpu_time")
    cells = {name: spec.load(f"risk_parity/{name}").reported for name in names}
    assert sum(len(c) for c in cells["example_bai2016"].values()) == 30
    assert sum(len(c) for c in cells["example_iterations"].values()) == 4
    assert sum(len(c) for c in cells["iterations"].values()) == 39
    # 39 printed times are 26 ratios to the original CCD's.
    assert sum(len(c) for c in cells["cpu_time"].values()) == 26
    for row in cells["cpu_time"].values():
        for cell in row.values():
            assert cell.grade == "derived"
            over, under = (float(t.split()[0]) for t in cell.where.partition(": ")[2].split(" / "))
            assert float(cell.value) == pytest.approx(over / under, abs=6e-4)


def test_deterministic_tables_reproduce_what_is_printed(retable):
    done = retable("run", "risk_parity/example_bai2016")
    assert "6 run" in done.stderr
    retable("run", "risk_parity/example_iterations")
    weights = json.loads(retable("table", "risk_parity/example_bai2016", "--json").stdout)
    for cell in weights["cells"]:
        assert cell["mean"] == pytest.approx(float(cell["reported"]["value"]), abs=6e-4)
        assert cell["n"] == cell["n_planned"] == 1
        assert cell["marks"] == []
    counts = json.loads(retable("table", "risk_parity/example_iterations", "--json").stdout)
    for cell in counts["cells"]:
        if cell["reported"] is not None:
            assert cell["mean"] == pytest.approx(float(cell["reported"]["value"]), rel=1e-6)


@pytest.mark.slow
def test_claims_hold_on_a_few_matrices(retable):
    """A small run with an asserted number: sweeps saved on Test 1 at N = 25 to 100."""
    columns = [f"--column=t1_n{n}" for n in (25, 50, 75, 100)]
    retable("run", "risk_parity/iterations", "--seeds", "10", *columns)
    cells = json.loads(retable("table", "risk_parity/iterations", "--json").stdout)["cells"]
    mean = {(c["row"], c["column"]): c["mean"] for c in cells}
    for n in (25, 50, 75, 100):
        original, improved = mean["original", f"t1_n{n}"], mean["improved", f"t1_n{n}"]
        assert 1.4 < original / improved < 2.3
        assert improved < mean["improved_unscaled", f"t1_n{n}"] < original
