"""Numbers that no run has recorded: what is said of them, and that they are not published."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from retable.cli import workflow
from retable.report import publish
from retable.runs import history_points, records
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.unrecorded import unrecorded
from retable.util import paths
from retable.util.errors import UserError
from support.index import record_for
from support.records import leave

NAME = "digits/unrecorded"
TABLE = """\
paper: digits
title: Numbers
source: {paper_ref: "Table 1"}
metrics:
  accuracy: {key: test/accuracy, unit: "%"}
  loss: {key: test/loss}
  error: {key: val/error}
seeds: 2
columns:
  accuracy: {metric: accuracy, experiment: &e digits/base}
  loss: {metric: loss, experiment: *e, result_row: last}
  curve: {metric: error, experiment: *e, epoch: 2}
rows: {slow: [model.optimizer.lr=0.01], fast: []}
"""


@pytest.fixture
def written(runs, tmp_path, monkeypatch):
    """Writes the table with changes, and records of all its runs; gives its grid."""
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "unrecorded.yaml"
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")

    def write(*changes: str):
        text = TABLE
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
        grid = plan(NAME)
        text = "".join(f"{json.dumps({'epoch': k, 'val/error': k / 8})}\n" for k in range(4))
        for run in grid.runs():
            folder = leave(runs, record_for(run, history_sha256=records.text_sha256(text)))
            (folder / "attempts" / "1" / history_points.FILE).write_text(text)
        return grid

    yield write
    file.unlink()


def found_in(grid):
    found = collect.from_runs(grid, pytest.fail)
    table = build(grid, found)
    return table, unrecorded(grid, table, found, collect.history_of_runs(grid))


WRONG = {
    "metric": (
        ("key: test/accuracy", "key: test/acuracy"),
        "metrics.accuracy.key: 'test/acuracy' is not in the records of the 2 finished runs of row"
        " slow, column accuracy and of 1 more cell; did you mean 'test/accuracy'?",
        True,
    ),
    "metric of a row": (
        ("loss: {key: test/loss}", "loss: {key: test/los}"),
        "metrics.loss.key: 'test/los' is not in the records of the 2 finished runs of row slow,"
        " column loss and of 1 more cell; did you mean 'test/loss'?",
        True,
    ),
    "history": (
        ("key: val/error", "key: val/eror"),
        "metrics.error.key: 'val/eror' is not in the records of the 2 finished runs of row slow,"
        " column curve and of 1 more cell; did you mean 'val/error'?",
        True,
    ),
    "row": (
        ("result_row: last", "result_row: lost"),
        "rows.slow: test/loss, result row 'lost' is not in the records of the 2 finished runs of"
        " row slow, column loss and of 1 more cell; did you mean 'last'?",
        False,
    ),
    "step": (
        ("result_row: last", "result_row: last, step: 3"),
        "columns.loss.step: test/loss, result row last, step 3 is not in the records of the 2"
        " finished runs of row slow, column loss and of 1 more cell",
        False,
    ),
}


@pytest.mark.parametrize(("change", "said", "is_mistake"), WRONG.values(), ids=WRONG)
def test_what_no_run_has_recorded_is_told_once_with_what_was_meant(
    written, change, said, is_mistake, capsys
):
    grid = written(*change)
    table, (one,) = found_in(grid)
    assert (one.text, one.is_mistake) == (said, is_mistake)
    assert {"not recorded", "partial 0/2"} <= set(table.cells[one.cells[0]].marks)
    workflow.collect([grid])
    assert capsys.readouterr().err.count(f"{NAME}: {said}") == 1


def test_one_metric_that_is_nowhere_is_told_once_for_all_its_rows(written):
    other = ("fast: []", "fast: {result_row: other}")
    _, told = found_in(written(*other))
    assert [one.is_mistake for one in told] == [False, False]  # two numbers, and no mistake
    _, told = found_in(written(*other, "key: test/accuracy", "key: test/acuracy"))
    (wrong,) = (one for one in told if one.is_mistake)
    assert wrong.cells == [("slow", "accuracy"), ("fast", "accuracy")]


def test_all_recorded_is_nothing_to_tell(written):
    table, missing = found_in(written())
    assert missing == []
    assert not any("not recorded" in cell.marks for cell in table.cells.values())


@pytest.mark.parametrize("name", ["metric", "history"])
def test_a_misspelt_metric_replaces_no_published_page(written, name):
    publish.publish(written())
    (file,) = (f for f in paths.results_dir().glob("digits/*.md") if f.name != "README.md")
    before = file.read_text()
    change, said, _ = WRONG[name]
    with pytest.raises(UserError) as caught:
        publish.publish(written(*change))
    assert said in str(caught.value)
    assert file.read_text() == before


def test_an_epoch_that_no_run_reaches_is_refused_before_any_run(written):
    with pytest.raises(UserError, match=r"curve: epoch: 4, and its run has the epochs 0 to 3"):
        written("epoch: 2", "epoch: 4")


def test_a_run_without_a_record_is_no_finished_one(written, runs):
    grid = written("key: test/accuracy", "key: test/acuracy")
    for run in grid.runs():
        (run.folder / records.RUN_RECORD).unlink()
        for file in run.folder.glob("attempts/*/record.json"):
            file.unlink()
    assert found_in(grid)[1] == []
