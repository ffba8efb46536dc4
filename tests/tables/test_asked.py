"""A name that no run records is told by the first one, before the others are spent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retable.cli import workflow
from retable.launch import worker
from retable.monitor.status_text import table_text
from retable.monitor.table_status import statuses_of
from retable.runs import records
from retable.runs.records import ResultRow
from retable.tables.asked import Asked
from retable.tables.grid import plan
from retable.util.errors import UserError
from support.index import record_for
from support.records import leave

NAME = "digits/asked"
TABLE = """\
paper: digits
title: Numbers
source: {paper_ref: "Table 1"}
metrics:
  accuracy: {key: test/accuracy, unit: "%", direction: max}
  loss: {key: test/loss}
seeds: 3
columns:
  accuracy: {metric: accuracy, experiment: digits/base}
rows: {slow: [model.optimizer.lr=0.01], fast: []}
"""
WRONG = ("key: test/accuracy", "key: test/acuracy")
SAID = (
    f"{NAME}: metrics.accuracy.key: 'test/acuracy' is not in the record of the first run that has"
    " finished (row slow, column accuracy); did you mean 'test/accuracy'?"
)
SELECT = (
    "select: {over: {model.hidden: [8, 16]}, by: val/accuracy, seeds: 2, rows: [fast],"
    " direction: max}\nseeds: 3"
)


@pytest.fixture
def written():
    """Writes the table with changes; gives its grid."""
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "asked.yaml"

    def write(*changes: str):
        text = TABLE
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
        return plan(NAME)

    yield write
    file.unlink(missing_ok=True)


@pytest.fixture
def one_by_one(fake, runs, monkeypatch):
    """Runs are done one at a time by leaving a record."""
    monkeypatch.setattr("retable.launch.local.workers_of", lambda _: 1)

    def done(run, _):
        if not (run.folder / records.RUN_RECORD).exists():
            leave(runs, record_for(run, started="2999-01-01T00:00:00+00:00", **fake.fields))
        return worker.Exit.DONE

    fake.fields, fake.script = {}, done
    return fake


def launched(grid, capsys):
    outcome = workflow.launch_once([grid])
    return outcome, capsys.readouterr().err


def test_the_first_finished_run_tells_and_the_others_are_not_started(written, one_by_one, capsys):
    grid = written(*WRONG)
    outcome, said = launched(grid, capsys)
    assert len(one_by_one.log) == 1
    assert not outcome.ok
    assert said.count(SAID) == 1
    assert "not started: 5 runs, asked for nothing but that; what is finished is kept" in said


def test_who_has_been_told_and_goes_on_gets_all_runs(written, one_by_one, runs, capsys):
    grid = written(*WRONG)
    leave(runs, record_for(next(iter(grid.runs()))))  # started before this launch
    outcome, said = launched(grid, capsys)
    assert (len(one_by_one.log), outcome.ok) == (5, True)
    assert said.count("'test/acuracy' is not in the record of the first run") == 1
    assert "It was told before, so that the others are started" in said
    assert "not started" not in said


def test_runs_that_are_asked_for_another_number_are_started(written, one_by_one, capsys):
    grid = written(*WRONG, "rows:", "  loss: {metric: loss, experiment: digits/base}\nrows:")
    outcome, said = launched(grid, capsys)
    assert (len(one_by_one.log), outcome.ok) == (6, True)
    assert said.count(SAID) == 1


def test_a_name_that_is_recorded_is_no_matter(written, one_by_one, capsys):
    outcome, said = launched(written(), capsys)
    assert (len(one_by_one.log), outcome.ok) == (6, True)
    assert "first run" not in said


def test_what_another_run_has_recorded_is_a_name_all_the_same(written, runs):
    grid = written()
    first, second = list(grid.runs())[:2]
    leave(runs, record_for(first))
    asked = Asked([grid])
    leave(runs, record_for(second, results=[ResultRow(metric="test/loss", value=1.0)]))
    assert asked.told(second) == []
    assert not asked.is_in_vain(second)


def test_a_choice_that_no_tuning_run_can_decide(written, one_by_one, capsys):
    one_by_one.fields = {"validation": {"val/accuracy": 0.5}}
    grid = written("seeds: 3", SELECT.replace("by: val/accuracy", "by: val/acuracy"))
    with pytest.raises(UserError, match=r"'val/acuracy' is not logged by .*mean 'val/accuracy'"):
        workflow.launch([grid])
    said = capsys.readouterr().err
    assert "select.by: 'val/acuracy' is not in the record of the first run" in said
    assert "(row fast, column accuracy); did you mean 'val/accuracy'?" in said
    tuned = [run for run in one_by_one.log if run.config.seed > 1000]
    assert (len(tuned), len(one_by_one.log)) == (1, 4)  # the row that chooses nothing is done
    with pytest.raises(UserError, match=r"mean 'val/accuracy'"):  # plan, status, watch
        workflow.plan(NAME)


def test_a_metric_of_the_history_is_looked_for_there(written, runs):
    change = ("experiment: digits/base}", "experiment: digits/base, epoch: 1}")
    grid = written(*change, "key: test/accuracy", "key: val/eror")
    first = next(iter(grid.runs()))
    text = '{"epoch": 0, "val/error": 1}\n'
    sha256 = records.text_sha256(text)
    folder = leave(runs, record_for(first, history_sha256=sha256, validation={"val/eror": 1.0}))
    (folder / "attempts" / "1" / "history.jsonl").write_text(text)
    (said,) = Asked([grid]).told(first)
    assert said.endswith("did you mean 'val/error'?")


def test_what_runs_in_vain_start_from_is_not_started(written, one_by_one, runs):
    grid = written(*WRONG, "experiment: digits/base}", "experiment: digits/tuned}")
    everything = list(grid.runs())
    parents = [run for run in everything if run.parent is None]
    children = [run for run in everything if run.parent is not None]
    asked = Asked([grid])
    assert not asked.is_for_nothing(parents[0], children)
    leave(runs, record_for(children[0], started="2999-01-01T00:00:00+00:00"))
    assert asked.told(children[0])
    assert all(map(asked.is_in_vain, children))
    assert not any(map(asked.is_in_vain, parents))
    assert asked.is_for_nothing(parents[0], children)
    assert not asked.is_for_nothing(parents[0], [])


def test_who_asks_how_runs_are_is_told_by_the_finished_ones(written, runs):
    """As `status` and `watch`, here and on a cluster: nothing is known before one has finished."""
    grid = written(*WRONG, "rows:", "  loss: {metric: loss, experiment: digits/base}\nrows:")
    assert statuses_of([grid], None, pytest.fail)[0].notes == []
    for run in list(grid.runs())[:2]:
        leave(runs, record_for(run))
    found = statuses_of([grid], None, pytest.fail)[0]
    [note] = found.notes
    assert note == (
        f"{NAME}: metrics.accuracy.key: 'test/acuracy' is in none of the 2 finished runs looked at;"
        " did you mean 'test/accuracy'?"
    )
    assert table_text(found).endswith(note)
    assert statuses_of([written()], None, pytest.fail)[0].notes == []
