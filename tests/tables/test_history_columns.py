"""Columns that show the run's history: from runs, and after publishing and restoring."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from retable.report import publish
from retable.report.explain import explain
from retable.report.restore import restore
from retable.runs import history_points, index, published_records, records
from retable.tables import collect, spec
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.verdicts.judge import judge
from retable.util import paths
from retable.util.errors import UserError
from support.index import record_for
from support.records import leave

NAME = "digits/history"
TABLE = """\
paper: digits
title: Curves
source: {paper_ref: "Figure 1"}
metrics: {loss: {key: train/loss, direction: min}, error: {key: val/error, unit: "%"}}
seeds: 3
columns:
  "loss_{epoch}":
    {over: {epoch: [0, 7, 301]}, metric: loss, epoch: "{epoch}", experiment: &e digits/base}
  "error_{share}": {over: {share: [50, 100]}, metric: error, epoch: "{share}%", experiment: *e}
rows:
  slow: [model.optimizer.lr=0.01, trainer.max_epochs=400]
  fast: [trainer.max_epochs=400]
"""
EPOCHS = 400


@pytest.fixture
def grid(tmp_path, monkeypatch):
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "history.yaml"
    file.write_text(TABLE, encoding="utf-8")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    yield plan(NAME)
    file.unlink()


def history_of(run) -> str:
    slow = run.config.model["optimizer"]["lr"] == 0.01
    seed = run.config.seed
    rows = [
        {"epoch": k, "train/loss": k + seed / 8 + slow, "val/error": (k + seed) / 1024}
        for k in range(EPOCHS)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def finish(grid, runs) -> None:
    for run in grid.runs():
        text = history_of(run)
        folder = leave(runs, record_for(run, history_sha256=records.text_sha256(text)))
        (folder / "attempts" / "1" / history_points.FILE).write_text(text)


def values(table) -> dict:
    return {place: cell.values for place, cell in table.cells.items()}


def expected() -> dict:
    found = {}
    for row in ("slow", "fast"):
        for k in (0, 7, 301):
            found[row, f"loss_{k}"] = {s: k + s / 8 + (row == "slow") for s in range(3)}
        for share, k in ((50, 199), (100, 399)):
            found[row, f"error_{share}"] = {s: 100 * (k + s) / 1024 for s in range(3)}
    return found


def test_cells_are_the_history_s_numbers_by_files_and_by_index(grid, runs, monkeypatch):
    finish(grid, runs)
    found = collect.from_runs(grid, pytest.fail)
    table = judge(build(grid, found))
    assert values(table) == expected()
    said = explain(table, grid, found, "slow,loss_301")
    assert "train/loss, epoch 301 of the history" in said.as_text()
    assert [run["recorded"] for run in said.as_json()["runs"]] == [302.0, 302.125, 302.25]
    monkeypatch.setattr(collect, "MANY", 1)
    monkeypatch.setattr(collect, "_NEWS", 1)
    monkeypatch.setattr(index, "_SETTLED_NS", 0)
    assert values(build(grid, collect.from_runs(grid, pytest.fail))) == expected()
    for file in runs.glob("digits/*/attempts/*/history.jsonl"):  # known by the record's hash of it
        file.unlink()
    assert index.file_of(runs, NAME, "paper").is_file()
    assert values(build(grid, collect.from_runs(grid, pytest.fail))) == expected()


def test_a_history_that_is_another_s_or_gone_gives_no_number(grid, runs):
    finish(grid, runs)
    first, second, *_ = grid.runs()
    file = first.folder / "attempts" / "1" / history_points.FILE
    file.write_text(file.read_text().replace('"epoch": 7,', '"epoch": 7, "more": 1,'))
    (second.folder / "attempts" / "1" / history_points.FILE).unlink()
    table = build(grid, collect.from_runs(grid, pytest.fail))
    assert table.cells["slow", "loss_7"].n == table.cells["fast", "loss_7"].n == 2


def test_steps_that_thinning_would_drop_are_there_after_publish_and_restore(grid, runs):
    finish(grid, runs)
    evenly = {round(i * (EPOCHS - 1) / 99) for i in range(100)}
    assert not {7, 301, 199} & evenly  # or nothing is shown here
    publish.publish(grid)
    file = published_records.parquet_file(NAME, "paper")
    assert values(build(grid, collect.from_results(grid))) == expected()
    for text in published_records.histories(file).values():
        assert {row["epoch"] for row in json.loads(text)} == evenly | {7, 301, 199}
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    shutil.rmtree(runs)
    done = restore(grid)
    assert (done.written, done.refused) == (6, [])
    found = collect.from_runs(grid, pytest.fail)
    assert values(build(grid, found)) == expected()
    assert not list(runs.glob("digits/*/attempts/*/history.jsonl"))
    publish.publish(grid)
    # Where it was thinned once it is not again; only the attempts' numbers could differ.
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


def test_an_epoch_asked_for_later_is_no_neighbour_s(grid, runs):
    finish(grid, runs)
    publish.publish(grid)
    shutil.rmtree(runs)
    restore(grid)
    run = next(iter(grid.runs()))
    record = collect.from_runs(grid, pytest.fail)[run.key]
    rows = history_points.rows_of_run(run.folder, record)
    assert math.isnan(history_points.value_in(rows, ("train/loss", None, 300)))
    assert history_points.value_in(rows, ("train/loss", None, 301)) == 302.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('epoch: "{epoch}"', "epoch: -1", "expected an epoch, from 0, or a share from 1%"),
        ('epoch: "{epoch}"', "epoch: half", "expected an epoch, from 0, or a share from 1%"),
        ('epoch: "{epoch}"', "epoch: 0%", "expected an epoch, from 0, or a share from 1%"),
        ('epoch: "{epoch}"', "epoch: 101%", "expected an epoch, from 0, or a share from 1%"),
        ('epoch: "{epoch}"', "epoch: 1, step: 2", "epoch: is of the history, and step and result_"),
        ("key: train/loss", "key: test/loss", "a history has train/... and val/..., and the key"),
    ],
)
def test_refusals(tmp_path, old, new, message):
    folder = tmp_path / "digits"
    folder.mkdir()
    file = folder / "wrong.yaml"
    file.write_text(TABLE.replace(old, new))
    with pytest.raises(UserError) as caught:
        spec.load_file(file)
    assert message in str(caught.value)
    line = 7 if "step" in new else 8  # of the entry, or of the key in it
    assert f"wrong.yaml, line {line}: columns.loss_0" in str(caught.value)
