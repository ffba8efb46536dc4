"""What a look at a sweep finds: times, curves, numbers that come in, and which tables go on."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from retable.monitor.board import active_tables
from retable.monitor.board.view import Watcher
from retable.monitor.curves import Curves
from retable.monitor.state import State
from retable.runs import frozen, records
from retable.runs.history import history_text
from retable.runs.records import Status
from retable.tables import collect
from retable.tables.grid import plan
from retable.tables.verdicts import sequential
from retable.util.errors import UserError
from support.follow import (
    begun,
    ended,
    hold,
    queue,
    submit,
)


def _rows(*values, name="val/accuracy"):
    return [{"epoch": n, name: value} for n, value in enumerate(values)]


def test_a_curve_is_the_validation_of_the_cells_metric(grid):
    run = grid.cell_runs(grid.cells["slow", "accuracy"])[0]
    rows = _rows(0.25, 0.5)
    rows[0] |= {"val/loss": 9.0, "train/accuracy": 0.1}
    rows.append({"epoch": 2, "train/accuracy": 0.9})  # not every epoch is validated
    begun(run, *rows)
    curve = Curves().of(run.folder, run.config, ["test/accuracy"])
    assert (curve.done, curve.of, curve.metric) == (3, 4, "val/accuracy")
    assert curve.values == [0.25, 0.5]


def test_a_curve_leaves_out_what_is_not_a_finite_number(grid):
    run = grid.cell_runs(grid.cells["slow", "accuracy"])[0]
    folder = begun(run, *_rows(0.25, 0.5, name="train/loss"))
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"epoch": 2, "train/loss": NaN}\n[1]\n{"epoch": 3, "train/loss": "x"}\n')
        file.write(json.dumps({"epoch": 3, "train/loss": 0.125}) + "\n")
    assert Curves().of(run.folder, run.config, ["test/accuracy"]).values == [0.25, 0.5, 0.125]


def test_a_curve_is_read_again_only_where_its_file_has_changed(grid, monkeypatch):
    run = grid.cell_runs(grid.cells["slow", "accuracy"])[0]
    folder = begun(run, *_rows(0.25))
    curves = Curves()
    first = curves.of(run.folder, run.config, ["test/accuracy"])
    assert curves.of(run.folder, run.config, ["test/accuracy"]) is first
    records.write_atomic(folder / "history.jsonl", history_text(_rows(0.25, 0.75)))
    assert curves.of(run.folder, run.config, ["test/accuracy"]).values == [0.25, 0.75]
    # An attempt that goes on has no history before its first epoch: the one before says more.
    begun(run, attempt=2)
    assert curves.of(run.folder, run.config, ["test/accuracy"]).values == [0.25, 0.75]
    records.write_atomic(run.folder / "attempts" / "2" / "history.jsonl", history_text(_rows(0.5)))
    assert curves.of(run.folder, run.config, ["test/accuracy"]).values == [0.5]


def test_cells_fill_in_from_look_to_look(grid, slurm):
    slow = grid.cell_runs(grid.cells["slow", "accuracy"])
    watcher = Watcher([grid])
    watcher.update()
    (view,) = watcher.views()
    assert view.table.cells["slow", "accuracy"].mean is None
    assert (view.elapsed, view.left, view.going) == (None, None, [])
    assert watcher.unfinished
    assert not watcher.goes_on
    ended(slow[0], value=0.5)
    begun(slow[1], *_rows(0.25, 0.5))
    hold(slow[1].folder)
    watcher.update()
    (view,) = watcher.views()
    assert view.table.cells["slow", "accuracy"].mean == 50.0
    assert view.counts["slow", "accuracy"] == {State.DONE: 1, State.RUNNING: 1, State.TODO: 1}
    (going,) = view.going
    assert (going.run.key, going.curve.values) == (slow[1].key, [0.25, 0.5])
    assert view.left == pytest.approx(0.5 * 1.0 + 4 * 1.0)  # by the one second that a run took
    assert watcher.goes_on
    ended(slow[2], value=0.75)
    watcher.update()
    cell = watcher.views()[0].table.cells["slow", "accuracy"]
    assert (cell.mean, cell.n) == (62.5, 2)
    assert slurm.calls() == []


def test_a_record_is_read_again_only_where_its_file_has_changed(grid, monkeypatch):
    run = grid.cell_runs(grid.cells["slow", "accuracy"])[0]
    ended(run, value=0.5)
    watcher = Watcher([grid])
    watcher.update()
    read = []
    monkeypatch.setattr(
        records, "read", lambda path, known=records.read: read.append(path) or known(path)
    )
    reader = watcher._reader
    reader.of(grid)
    assert read == []
    shutil.rmtree(run.folder)
    ended(run, value=0.25)
    found, _ = reader.of(grid)
    assert found[run.key].value("test/accuracy") == 0.25
    assert len(read) == 1


def test_very_many_runs_give_the_same_view(grid, monkeypatch):
    for number, run in enumerate(grid.runs()):
        ended(run, value=number / 8)
    views = []
    for many in (collect.MANY, 1):
        monkeypatch.setattr(collect, "MANY", many)
        watcher = Watcher([grid])
        watcher.update()
        views += watcher.views()
    few, many = views
    assert {p: c.mean for p, c in few.table.cells.items()} == {
        p: c.mean for p, c in many.table.cells.items()
    }
    assert few.counts == many.counts
    assert few.elapsed == pytest.approx(many.elapsed, abs=0.01)


def test_a_table_run_until_decided_has_the_seeds_that_its_next_look_needs(runs):
    grid = plan("digits/accuracy")
    sequential.fix(collect.looks_of(grid), 5, "2026-01-01", started=False)
    for run in grid.runs():
        ended(run, value=(0.85, 0.93, 0.97)[run.config.seed])
    watcher = Watcher([grid])
    watcher.update()
    (view,) = watcher.views()
    assert view.counts["slow", "accuracy"] == {State.DONE: 3, State.TODO: 2}
    assert view.table.cells["slow", "accuracy"].n == 3
    assert watcher.unfinished


def test_a_broken_record_is_a_note_and_not_the_end(grid):
    run = grid.cell_runs(grid.cells["slow", "accuracy"])[0]
    file = ended(run, value=0.5) / "record.json"
    file.unlink()
    file.write_text("{")
    watcher = Watcher([grid])
    watcher.update()
    watcher.update()
    (note,) = watcher.notes
    assert f"{file}: broken record" in note
    assert watcher.views()[0].table.cells["slow", "accuracy"].mean == 50.0  # by the attempt's own


def test_a_cluster_is_asked_once_a_look(runs, grid, slurm):
    submit(runs, *([run] for run in grid.runs()))
    queue(slurm, "12_0 RUNNING n1", *(f"12_{n} PENDING Resources" for n in range(1, 6)))
    watcher = Watcher([grid])
    watcher.update()
    watcher.views()
    assert [call[0] for call in slurm.calls()] == ["squeue"]
    assert watcher.asks


def test_without_a_name_it_is_what_goes_on(runs, grid, slurm):
    with pytest.raises(UserError, match=r"no run of a table below .*: name a table"):
        active_tables.tables(runs, None)
    first, second, *_ = grid.cell_runs(grid.cells["slow", "accuracy"])
    for run in (first, second):
        frozen.write(run)
    os.utime(second.folder, (1, 1))
    assert [g.name for g in active_tables.tables(runs, None)] == [
        "digits/accuracy"
    ]  # touched, first by name
    hold(second.folder)
    assert [g.name for g in active_tables.tables(runs, None)] == ["digits/accuracy", "digits/fates"]
    assert [g.protocol for g in active_tables.tables(runs, "paper")] == ["paper", "paper"]
    with pytest.raises(UserError, match="belongs to no table: retable status"):
        active_tables.tables(runs, "smoke")


def test_without_a_name_what_is_queued_counts_too(runs, grid, slurm):
    run = grid.cell_runs(grid.cells["slow", "accuracy"])[0]
    submit(runs, [run])
    queue(slurm, "12_0 PENDING Resources")
    assert "digits/fates" in [g.name for g in active_tables.tables(runs, None)]


def test_failed_runs_are_no_reason_to_wait(grid):
    for run in grid.runs():
        ended(run, Status.FAILED, error="RuntimeError: no")
    watcher = Watcher([grid])
    watcher.update()
    assert not watcher.unfinished
    assert not watcher.goes_on
