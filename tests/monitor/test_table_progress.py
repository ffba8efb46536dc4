"""What `plan` says of a table: states by records alone, and the time that the rest will take."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from retable.launch.rehearsal.records import Estimate, Rehearsed, forget_failure, keep
from retable.launch.slurm.sacct import Accounting
from retable.monitor import recorded, table_progress
from retable.monitor.state import RECORDED, State
from retable.monitor.table_progress import progress_of
from retable.monitor.table_status import statuses_of
from retable.runs.records import Status
from retable.tables import collect
from retable.util.errors import UserError
from support.follow import (
    ended,
)
from support.index import table
from support.records import plain_record


@pytest.fixture(autouse=True)
def two_workers(monkeypatch):
    monkeypatch.setattr(table_progress, "workers_of", lambda run: 2)


def test_nothing_is_known_before_the_first_record(grid):
    assert progress_of(grid).as_text() == (
        "digits/fates, protocol paper: 6 runs, 6 to do\n"
        "expected time: unknown (no record yet)\n"
        "    accuracy [slow, fast]: 3 to do"
    )


def test_columns_that_show_the_same_runs_are_one_line_and_others_are_not():
    both = table(2)
    assert progress_of(both).as_text().splitlines()[2:] == [
        f"    {', '.join(both.spec.columns)} [{', '.join(both.spec.rows)}]: 2 to do"
    ]
    one, other = both.spec.columns
    row = next(iter(both.spec.rows))
    cells = dict(both.cells)
    cells[row, other] = replace(cells[row, other], setting=cells[[*both.spec.rows][1], one].setting)
    assert len(progress_of(replace(both, cells=cells)).as_text().splitlines()) == 2 + 2


def test_every_state_that_records_tell_and_the_time_of_the_rest(grid):
    slow, fast = (grid.cell_runs(grid.cells[row, "accuracy"]) for row in ("slow", "fast"))
    ended(slow[0], wall_s=100.0)
    ended(slow[1], wall_s=200.0, fingerprint="f" * 64)
    ended(fast[0], Status.FAILED, error="no", wall_s=1.0)
    ended(fast[1], Status.DIVERGED, error="nan", wall_s=1.0)
    found = progress_of(grid)
    assert found.as_text() == (
        "digits/fates, protocol paper: 6 runs, 1 done, 1 stale, 1 diverged, 1 failed, 2 to do\n"
        "expected time: about 4 min with 2 at once,"
        " of which as the others' mean, for want of a record: 2 runs\n"
        "stale: retable refresh digits/fates tells whether the edits matter\n"
        "    accuracy [slow]: 1 done, 1 stale, 1 to do\n"
        "    accuracy [fast]: 1 diverged, 1 failed, 1 to do"
    )
    cells = [
        {"row": "slow", "column": "accuracy", "done": 1, "stale": 1, "diverged": 0, "failed": 0,
         "blocked": 0, "to do": 1},
        {"row": "fast", "column": "accuracy", "done": 0, "stale": 0, "diverged": 1, "failed": 1,
         "blocked": 0, "to do": 1},
    ]  # fmt: skip
    assert found.as_json() == {
        "table": "digits/fates",
        "protocol": "paper",
        "runs": {"done": 1, "stale": 1, "diverged": 1, "failed": 1, "blocked": 0, "to do": 2},
        "runs_after_choice": 0,
        "expected_s": 3 * 150.0 / 2,
        "workers": 2,
        "estimated_runs": {},
        "published_runs": 0,
        "untimed_runs": 2,
        "failed_rehearsals": [],
        "started_from": [],
        "without_weights": [],
        "cells": cells,
    }


def test_a_rehearsal_tells_the_time_of_settings_without_a_record_and_of_no_others(grid):
    slow, fast = (grid.cell_runs(grid.cells[row, "accuracy"]) for row in ("slow", "fast"))
    ended(slow[0], wall_s=100.0)
    for run, seconds in ((slow[0], 7.0), (fast[0], 1000.0)):
        found = Rehearsed("done", 1, flops=1, steps=1)
        keep(run, Estimate(run.fingerprint, found, seconds, "a device", 0.3))
    known = progress_of(grid)
    assert known.expected_s == (2 * 100.0 + 3 * 1000.0) / 2
    assert known.as_text().splitlines()[1] == (
        "expected time: about 27 min with 2 at once,"
        " of which an estimate: 3 runs on a device at 30% of its peak (retable rehearse)"
    )
    assert known.as_json()["estimated_runs"] == {"a device at 30% of its peak": 3}
    ended(fast[0], wall_s=10.0)
    assert not progress_of(grid).estimated


def test_published_times_count_where_nothing_else_is_known(grid, monkeypatch, tmp_path):
    slow, fast = (grid.cell_runs(grid.cells[row, "accuracy"]) for row in ("slow", "fast"))
    ended(slow[0], wall_s=100.0)
    published = {run.key: plain_record(key=run.key, seed=s, wall_s=20.0) for run, s in
                 ((slow[0], 0), (fast[0], 0))}  # fmt: skip
    monkeypatch.setattr(collect, "from_results", lambda grid: published)
    known = progress_of(grid)
    assert known.expected_s == (2 * 100.0 + 3 * 20.0) / 2
    assert known.as_text().splitlines()[1] == (
        "expected time: about 2 min with 2 at once,"
        " of which by published records, of whatever machine: 3 runs"
    )
    assert known.as_json()["published_runs"] == 3
    keep(fast[0], Estimate(fast[0].fingerprint, Rehearsed("done", 1), 7.0, "a device", 0.3))
    assert progress_of(grid).by_published == 0  # somebody has asked for that device


def test_a_published_file_that_is_broken_does_not_end_it(grid, monkeypatch, capsys):
    def broken(grid):
        raise UserError("x.parquet: is not what was published")

    monkeypatch.setattr(collect, "from_results", broken)
    assert progress_of(grid).expected_s is None
    assert "x.parquet: is not what was published" in capsys.readouterr().err


def test_what_failed_in_its_rehearsal_is_told_until_it_does_no_more(grid):
    run = grid.cells["fast", "accuracy"].setting
    failed = Rehearsed("failed", 1, reason="start.run: does not fit")
    keep(run, Estimate(run.fingerprint, failed, None, "a device", None))
    known = progress_of(grid)
    assert "    failed in its rehearsal: fast, accuracy: start.run: does not fit\n" in (
        known.as_text()
    )
    assert known.as_json()["failed_rehearsals"] == [
        {"reason": "start.run: does not fit", "settings": ["fast, accuracy"]}
    ]
    assert known.expected_s is None
    forget_failure(run)
    assert not progress_of(grid).broken
    keep(run, Estimate(run.fingerprint, Rehearsed("done", 1), 7.0, "a device", 0.3))
    forget_failure(run)
    assert progress_of(grid).estimated


def test_a_table_that_is_done_has_nothing_to_do(grid):
    for run in grid.runs():
        ended(run)
    assert progress_of(grid).as_text() == (
        "digits/fates, protocol paper: 6 runs, 6 done\n"
        "expected time: nothing to start\n"
        "    accuracy [slow, fast]: 3 done"
    )


@pytest.mark.parametrize("many", [collect.MANY, 1])
def test_plan_and_status_say_the_same_of_runs_that_were_never_submitted(slurm, monkeypatch, many):
    monkeypatch.setattr(collect, "MANY", many)
    grid = table(len(Status) + 1)
    code = itertools.cycle(({}, {"fingerprint": "f" * 64}))
    for status, run in zip((*Status, *Status), grid.runs(), strict=False):
        ended(run, status, **next(code))
    states = recorded.states(grid, collect.from_runs(grid, pytest.fail))
    (seen,) = statuses_of([grid], Accounting(), pytest.fail)
    assert states == {key: one.state for key, one in seen.seen.items()}
    assert set(states.values()) == {*RECORDED} - {State.BLOCKED} < set(State)
