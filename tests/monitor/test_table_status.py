"""The runs of a table as they are doing: every run in one state, cells that add up."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.launch.slurm.open_jobs import Queue
from retable.launch.slurm.sacct import Accounting
from retable.monitor.run_states import Seen
from retable.monitor.state import State
from retable.monitor.table_status import TableStatus, runs_of, statuses_of
from retable.runs.records import Status
from retable.tables import collect
from retable.tables.grid import plan
from support.follow import (
    begun,
    ended,
    hold,
    queue,
    submit,
)
from support.index import table


def look(grid):
    (found,) = statuses_of([grid], Accounting(), pytest.fail)
    return found


def test_runs_have_names_and_metrics(grid):
    found = runs_of(grid)
    assert list(found) == [run.key for setting, seeds in grid.settings()
                           for run in (setting.with_seed(seed) for seed in seeds)]  # fmt: skip
    assert [run.name for run in found.values()] == [
        "slow, accuracy s0", "slow, accuracy s1", "slow, accuracy s2",
        "fast, accuracy s0", "fast, accuracy s1", "fast, accuracy s2",
    ]  # fmt: skip
    assert {run.metrics for run in found.values()} == {("test/accuracy",)}


def test_runs_that_fill_several_cells_are_one_line_with_both():
    grid = table(2)
    found = runs_of(grid)
    assert [run.name for run in found.values()][:2] == [
        "slow, accuracy (+ 1 cell) s0",
        "slow, accuracy (+ 1 cell) s1",
    ]
    assert next(iter(found.values())).metrics == ("test/accuracy", "test/loss")


@cache
def _many():
    return table(10)


@settings(deadline=None)
@given(st.lists(st.sampled_from(State), min_size=20, max_size=20))
def test_cells_add_up_to_the_table_whatever_the_states(states):
    grid = _many()
    runs = runs_of(grid)
    seen = {key: Seen(Path(), s) for key, s in zip(runs, states, strict=True)}
    status = TableStatus(grid, runs, seen, Queue([]))
    groups = [keys for _, keys in status.cells()]
    assert sum(sum(status.counts(keys).values()) for keys in groups) == len(runs) == 20
    assert sum((status.counts(keys) for keys in groups), start=status.counts([])) == status.counts()
    assert sum(len(status.in_state(state)) for state in State) == 20
    for keys in groups:
        telling = status.telling(keys)
        if any(seen[key].state is State.RUNNING for key in keys):
            assert seen[telling].state is State.RUNNING
        if telling is None:
            assert {seen[key].state for key in keys} <= {State.DONE, State.TODO}
    assert status.goes_on == bool({State.RUNNING, State.QUEUED} & set(states))


def test_of_those_that_are_running_the_furthest_says_most(runs, grid, slurm):
    slow = grid.cell_runs(grid.cells["slow", "accuracy"])
    for run, rows in zip(slow, ([], [0, 1], [0]), strict=True):
        begun(run, *({"epoch": n, "val/accuracy": 0.5} for n in rows))
        hold(run.folder)
    found = look(grid)
    keys = [run.key for run in slow]
    assert found.telling(keys) == slow[1].key
    assert found.epochs[slow[1].key].text() == "epoch 2 of 4, val/accuracy 0.5"
    assert slurm.calls() == []


def test_histories_are_read_of_running_runs_only(runs, grid, slurm, monkeypatch):
    from retable.monitor import run_progress

    six = list(grid.runs())
    for run in six[:3]:
        ended(run)
    hold(begun(six[3]).parents[1])
    read = []
    newest = run_progress.newest
    monkeypatch.setattr(
        run_progress, "newest", lambda folder, *a: read.append(folder) or newest(folder, *a)
    )
    assert set(look(grid).epochs) == {six[3].key}
    assert read == [six[3].folder]


def test_several_tables_are_one_look(runs, grid, slurm):
    other = plan("digits/accuracy")
    submit(runs, *([run] for run in grid.runs()))
    queue(slurm, "12_0 RUNNING n1")
    found = statuses_of([grid, other], Accounting(), pytest.fail)
    # The same runs fill both, so both say the same of them.
    assert [table.counts()[State.RUNNING] for table in found] == [1, 1]
    assert [call[0] for call in slurm.calls()] == ["squeue", "sacct"]


def test_of_very_many_runs_the_index_is_used_and_says_the_same(runs, slurm, monkeypatch):
    grid = table(10)
    twenty = list(grid.runs())
    for run in twenty[:5]:
        ended(run)
    ended(twenty[5], fingerprint="f" * 64)
    ended(twenty[6], Status.FAILED, error="no", attempt=3)
    submit(runs, *([run] for run in twenty[6:8]), before=3)
    queue(slurm, "12_0 PENDING Priority", "12_1 PENDING Priority")
    plain = look(grid)
    monkeypatch.setattr(collect, "MANY", 10)
    many = look(grid)
    states = [seen.state for seen in many.seen.values()]
    assert states == [seen.state for seen in plain.seen.values()]
    assert many.counts() == {
        State.DONE: 5, State.STALE: 1, State.QUEUED: 2, State.TODO: 12,
    }  # fmt: skip
