"""The paper in the harness: a run by the command line, and its numbers on a few seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.data.base import DataPaths
from retable.papers.r_learner.data import Simulated
from retable.papers.r_learner.learners.kernel_ridge import KernelRidge
from retable.papers.r_learner.module import RLearner
from retable.papers.r_learner.rows import ROWS


def records(runs: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("r_learner/*/record.json"))]


@pytest.mark.slow
def test_a_smoke_run_by_the_command_line_records_all_rows(retable, runs):
    """Set-up and n by override, as the columns of a table do it."""
    command = ("train", "experiment=r_learner/kernel_ridge_smoke", "data.setup=c", "seed=3")
    assert "1 run" in retable(*command).stderr
    (record,) = records(runs)
    assert record["status"] == "done"
    values = {(r["metric"], r.get("result_row", "")): r["value"] for r in record["results"]}
    assert {row for metric, row in values if metric == "test/cate_mse"} == set(ROWS)
    assert len(values) == 2 * len(ROWS) + 6
    # The same numbers without the harness.
    data = Simulated(seed=3, paths=DataPaths(runs), setup="c", n=60, n_test=50)
    (batch,) = list(data.test_dataloader())
    module = RLearner(
        seed=3,
        folds=5,
        learner=KernelRidge(bandwidths=[1.0, 2.5], ridges=[0.1, 1.0, 10.0, 100.0, 1000.0]),
    )
    with torch.no_grad():
        module.test_step(batch, 0)
    for result in module.results:
        # Another number of BLAS threads may round otherwise.
        assert values[result.metric, result.row] == pytest.approx(result.value, rel=1e-6)


def test_the_experiment_is_the_reduced_protocol():
    with hydra_ready():
        config = compose(["experiment=r_learner/kernel_ridge", "seed=0"])
    assert config.protocol == "reduced"
    assert config.stages == ["test"]
    model, data = dict(config.model), dict(config.data)
    assert (data["setup"], data["n"], data["n_test"]) == ("a", 250, 1000)
    assert (model["order"], model["folds"], model["clip"]) == (2, 5, 0.01)
    learner = model["learner"]
    assert learner["bandwidths"] == [1, 2.5]
    assert learner["ridges"] == [0.1, 1, 10, 100, 1000]
    assert (learner["nuisance_folds"], learner["effect_folds"]) == (3, 5)


@pytest.mark.slow
def test_weights_lower_the_error_where_overlap_is_poor(tmp_path):
    """Eight seeds of set-up C, n = 250: a few seconds."""
    rows = ["u-one", "u-u_ax", "dr-one", "dr-dr_x", "t"]
    learner = KernelRidge(bandwidths=[1.0, 2.5], ridges=[0.1, 1.0, 10.0, 100.0, 1000.0])
    errors: dict[str, list[float]] = {row: [] for row in rows}
    for seed in range(8):
        data = Simulated(seed=seed, paths=DataPaths(tmp_path), setup="c", n_test=1000)
        module = RLearner(seed=seed, learner=learner, rows=rows, folds=5)
        (batch,) = list(data.test_dataloader())
        module.test_step(batch, 0)
        for result in module.results:
            if result.metric == "test/cate_mse":
                errors[result.row].append(result.value)
    mean = {row: float(np.mean(values)) for row, values in errors.items()}
    assert mean["u-one"] > 10 * mean["u-u_ax"]
    assert mean["dr-one"] > mean["dr-dr_x"]
    assert mean["t"] > 2 * mean["u-u_ax"]
    assert mean["u-u_ax"] < 0.3
