"""From records to cells."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from retable.runs.record_parts import Stretch
from retable.runs.records import Provenance, Record, ResultRow, Status
from retable.tables.aggregate import build, mean_std, relative
from retable.tables.grid import Grid, plan
from support.records import PROVENANCE, plain_record


def record(run, value: float | None, **changes) -> Record:
    fields = {
        "key": run.key,
        "paper": run.config.paper,
        "experiment": run.config.experiment,
        "protocol": run.config.protocol,
        "seed": run.config.seed,
        "config": {},
        "results": []
        if value is None
        else [ResultRow(metric=m, value=value) for m in ("test/accuracy", "test/loss")],
        "fingerprint": run.fingerprint,
        "provenance": Provenance(
            commit="c", dirty=None, packages="p", python="3", torch="2", cpu="cpu", cores=1
        ),
    }
    return plain_record(**{**fields, **changes})


@pytest.fixture
def grid() -> Grid:
    return plan("digits/accuracy")


def cell_of(grid: Grid, found: list[Record], row: str = "slow", column: str = "accuracy"):
    return build(grid, {r.key: r for r in found}).cells[row, column]


def runs_of(grid: Grid, row: str = "slow", column: str = "accuracy"):
    return grid.cell_runs(grid.cells[row, column])


def test_mean_std_n_and_per_cent(grid):
    runs = runs_of(grid)
    cell = cell_of(grid, [record(r, v) for r, v in zip(runs, (0.9, 0.92, 0.97), strict=True)])
    assert cell.values == pytest.approx({0: 90, 1: 92, 2: 97})
    assert cell.mean == pytest.approx(93)
    assert cell.std == pytest.approx(np.std([90, 92, 97], ddof=1))
    assert (cell.n, cell.n_planned, cell.marks) == (3, 3, [])
    assert cell.run_keys == [r.key for r in runs]
    loss = cell_of(grid, [record(r, 0.5) for r in runs], column="loss")
    assert loss.mean == 0.5  # no unit, no factor
    assert mean_std([]) == (None, None)
    assert mean_std([2.0]) == (2.0, None)


def test_partial(grid):
    cell = cell_of(grid, [record(r, 0.9) for r in runs_of(grid)[:1]])
    assert (cell.n, cell.std, cell.marks) == (1, None, ["partial 1/3"])
    nothing = cell_of(grid, [])
    assert (nothing.mean, nothing.n, nothing.run_keys) == (None, 0, [])
    assert "partial 0/3" in nothing.marks


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.DONE])
def test_only_done_fills_a_cell(grid, status):
    runs = runs_of(grid)
    found = [record(runs[0], 0.9), record(runs[1], 0.8), record(runs[2], 0.1, status=status)]
    cell = cell_of(grid, found)
    assert cell.values == pytest.approx({0: 90, 1: 80})
    assert "partial 2/3" in cell.marks
    assert (f"{status.value} 1/3" in cell.marks) == (status is not Status.INTERRUPTED)
    assert build(grid, {r.key: r for r in found}).n_failed == 1


def test_marks_of_code_devices_and_grades(grid):
    first, second, third = runs_of(grid)
    cell = cell_of(grid, [record(first, 0.9), record(second, 0.9, fingerprint="old")])
    assert "partly stale" in cell.marks
    cell = cell_of(grid, [record(run, 0.9, fingerprint="old") for run in (first, second)])
    assert cell.marks == ["partial 2/3", "stale"]
    cell = cell_of(grid, [record(first, 0.9), record(third, 0.9, device="cuda")])
    assert "mixed devices" in cell.marks
    cell = cell_of(grid, [record(first, 0.9), record(third, 0.9, devices=2)])
    assert "mixed devices" in cell.marks
    # A diverged run's device and code say nothing about the number.
    diverged = record(third, None, device="cuda", fingerprint="old", status=Status.DIVERGED)
    marks = cell_of(grid, [record(first, 0.9), record(second, 0.9), diverged]).marks
    assert marks == ["partial 2/3", "diverged 1/3"]
    full = [record(r, 0.9) for r in runs_of(grid, "fast")]
    assert cell_of(grid, full, "fast").marks == ["unverified (recalled)"]
    assert cell_of(grid, full, "fast", "loss").marks == ["unverified (secondhand)"]


def test_times_of_runs_that_were_not_alone_are_marked_where_a_table_asks_for_it(grid):
    runs = runs_of(grid)
    beside = [record(run, 0.9, alone=number > 0) for number, run in enumerate(runs)]
    assert cell_of(grid, beside).marks == []
    timed = replace(grid, spec=grid.spec.model_copy(update={"timing": "alone"}))
    assert cell_of(timed, beside).marks == ["not alone"]
    assert cell_of(timed, [record(run, 0.9, alone=True) for run in runs]).marks == []


def test_times_of_runs_that_went_on_elsewhere_are_marked_where_a_table_asks_for_it(grid):
    before = structs.replace(PROVENANCE, cpu="before")
    began = Stretch(provenance=before, threads=1, workers=1, alone=True)
    runs = [record(run, 0.9, alone=True, earlier=[began]) for run in runs_of(grid)]
    assert cell_of(grid, runs).marks == []
    timed = replace(grid, spec=grid.spec.model_copy(update={"timing": "alone"}))
    assert cell_of(timed, runs).marks == ["begun elsewhere"]


def test_reported_only_rows(grid):
    cell = cell_of(grid, [], "quoted")
    assert (cell.mean, cell.n_planned, cell.reported.value) == (None, 0, "97.2")
    assert cell.marks == ["unverified (derived)", "not run"]
    assert ("quoted", "loss") not in build(grid, {}).cells


def test_values_that_are_missing_or_not_finite_do_not_count(grid):
    runs = runs_of(grid)
    found = [record(runs[0], 0.9), record(runs[1], None), record(runs[2], math.inf)]
    assert cell_of(grid, found).values == pytest.approx({0: 90})


positive = st.floats(min_value=0.1, max_value=1e3)


@settings(deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=30))
def test_relative_is_the_ratio_of_means_with_the_error_of_the_delta_method(pairs):
    x, y = (np.array(side) for side in zip(*pairs, strict=True))
    values = relative(dict(enumerate(x)), dict(enumerate(y)))
    got = np.array([values[i] for i in range(len(x))])
    ratio = x.mean() / y.mean()
    assert got.mean() == pytest.approx(ratio, rel=1e-9)
    # Var(R) = (s_xx - 2 R s_xy + R^2 s_yy) / (n mean(y)^2), each with ddof 1.
    s = np.cov(x, y, ddof=1)
    variance = (s[0, 0] - 2 * ratio * s[0, 1] + ratio**2 * s[1, 1]) / (len(x) * y.mean() ** 2)
    scale = (x.max() / y.mean()) ** 2
    assert got.var(ddof=1) / len(x) == pytest.approx(max(variance, 0), rel=1e-6, abs=1e-9 * scale)


def test_relative_error_is_what_repetition_gives():
    rng = np.random.default_rng(0)
    y = rng.normal(10, 1, (4000, 50))
    x = 0.5 * y + rng.normal(2, 0.5, (4000, 50))
    errors = [
        np.std(list(relative(dict(enumerate(a)), dict(enumerate(b))).values()), ddof=1) / 50**0.5
        for a, b in zip(x[:300], y[:300], strict=True)
    ]
    spread = np.std(x.mean(axis=1) / y.mean(axis=1), ddof=1)
    assert np.mean(errors) == pytest.approx(spread, rel=0.05)


def test_relative_takes_the_seeds_that_both_have():
    assert relative({0: 2.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0, 3: 1.0}) == {0: 2.0, 1: 2.0}
    assert relative({0: 1.0}, {1: 1.0}) == {}
    assert relative({0: 1.0}, {0: 0.0}) == {}
    assert set(relative({0: 3.0, 1: 5.0}, {0: 3.0, 1: 5.0}).values()) == {1.0}


def test_a_relative_cell_waits_for_the_row_that_it_is_relative_to(grid):
    spec = relative_to_fast(grid)
    own = {run.key: record(run, 0.5) for run in runs_of(spec)}
    below = runs_of(spec, row="fast")
    done = {run.key: record(run, 1.0) for run in below}
    cell = build(spec, own | done).cells["slow", "accuracy"]
    assert (cell.n, cell.n_done, cell.ended, cell.waits) == (3, 3, {}, False)
    lacking = {key: value for key, value in done.items() if key != below[1].key}
    cell = build(spec, own | lacking).cells["slow", "accuracy"]
    assert (cell.n, cell.n_done, cell.ended, cell.waits) == (2, 2, {}, True)
    lost = record(below[1], None, status=Status.DIVERGED)
    cell = build(spec, own | lacking | {lost.key: lost}).cells["slow", "accuracy"]
    assert (cell.n, cell.n_done, cell.ended, cell.waits) == (2, 2, {"diverged": 1}, False)
    assert "diverged 1/3" in cell.marks


def test_a_relative_cell_is_stale_where_its_reference_is(grid):
    spec = relative_to_fast(grid)
    found = {run.key: record(run, 0.5) for run in runs_of(spec)}
    found |= {run.key: record(run, 1.0, fingerprint="0" * 64) for run in runs_of(spec, row="fast")}
    assert "partly stale" in build(spec, found).cells["slow", "accuracy"].marks


def relative_to_fast(grid: Grid) -> Grid:
    """The same table with the accuracy relative to that of another row."""
    metrics = dict(grid.spec.metrics)
    metrics["accuracy"] = metrics["accuracy"].model_copy(update={"relative_to": "fast"})
    return replace(grid, spec=grid.spec.model_copy(update={"metrics": metrics}))
