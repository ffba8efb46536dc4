"""What `retable status TABLE` says, to people and to programs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from retable.launch.slurm.client import Queued
from retable.launch.slurm.sacct import Accounting
from retable.monitor import status_text
from retable.monitor.state import State
from retable.monitor.status_text import LISTED, held_text, table_json, table_text
from retable.monitor.table_status import statuses_of
from retable.runs.records import Status
from support.follow import (
    begun,
    ended,
    folder_of,
    hold,
    queue,
    submit,
)


def look(grid):
    (found,) = statuses_of([grid], Accounting(), pytest.fail)
    return found


def test_a_line_per_cell_then_what_went_wrong(runs, grid, slurm):
    slow = grid.cell_runs(grid.cells["slow", "accuracy"])
    fast = grid.cell_runs(grid.cells["fast", "accuracy"])
    submission = submit(runs, *([run] for run in [*slow, *fast]))
    queue(slurm, "12_0 RUNNING n1", "12_1 PENDING Resources")
    submission.say(0, 0, "started", job="12_0", id="13", restart=0, node="n1")
    begun(slow[0], {"epoch": 0, "val/accuracy": 0.25, "val/loss": 2.0})
    hold(slow[0].folder, job="13", here=False)
    ended(slow[2])
    failed = ended(fast[0], Status.FAILED, error="RuntimeError: no\nmore")
    (failed / "attempts" / "1" / "traceback.txt").write_text("Traceback\n")
    ended(fast[1], Status.DIVERGED, error="loss is nan")
    slurm.answer("sacct", "12_5|NODE_FAIL|0:0|n2\n")
    found = look(grid)
    assert table_text(found).splitlines() == [
        "digits/fates, protocol paper: 6 runs, 1 done, 1 running, 1 queued, 1 diverged, 1 failed,"
        " 1 lost",
        "    slow, accuracy: 1 done, 1 running, 1 queued; s0 epoch 1 of 4, val/accuracy 0.25, on"
        " n1, 29:58 left, job 12_0",
        "    fast, accuracy: 1 diverged, 1 failed, 1 lost; s2 lost: NODE_FAIL on n2",
        f"failed: fast, accuracy s0 ({fast[0].key[:8]}): RuntimeError: no (traceback:"
        f" {failed}/attempts/1/traceback.txt)",
        f"lost: fast, accuracy s2 ({fast[2].key[:8]}): NODE_FAIL on n2 (job 12_5; retable logs"
        f" {fast[2].key[:8]})",
        f"diverged: fast, accuracy s1 ({fast[1].key[:8]}): loss is nan (job 12_4; retable logs"
        f" {fast[1].key[:8]})",
        "retable retry digits/fates does the 2 failed or lost runs again",
    ]
    plain = table_json(found)
    assert plain["runs"]["running"] == 1
    assert [(c["row"], c["done"], c["failed"]) for c in plain["cells"]] == [
        ("slow", 1, 0), ("fast", 0, 1),
    ]  # fmt: skip
    details = {d["key"]: d for d in plain["details"]}
    assert set(details) == {r.key for r in [*slow[:2], *fast]}
    running = details[slow[0].key]
    assert (running["node"], running["left"], running["job"]) == ("n1", "29:58", "12_0")
    assert (running["epoch"], running["epochs"], running["metric"]) == (1, 4, "val/accuracy")
    assert details[fast[0].key]["traceback"] == f"{failed}/attempts/1/traceback.txt"
    assert details[slow[1].key]["why"] == "Resources"


def test_queued_cells_say_why_they_wait(runs, grid, slurm):
    submit(runs, *([run] for run in grid.runs()))
    queue(slurm, *(f"12_{n} PENDING BeginTime" for n in range(6)))
    lines = table_text(look(grid)).splitlines()
    assert lines[1] == "    slow, accuracy: 3 queued; s0 queued: BeginTime (job 12_0)"


def test_without_sacct_a_line_says_so(runs, grid, slurm):
    submit(runs, *([run] for run in grid.runs()))
    slurm.answer("sacct", error="Slurm accounting storage is disabled\n", code=1)
    text = table_text(look(grid))
    assert text.count("Slurm accounting storage is disabled") == 1
    assert "6 lost" in text


def test_of_very_many_failures_some_are_named(runs, grid, slurm, monkeypatch):
    monkeypatch.setattr(status_text, "LISTED", 2)
    for run in grid.runs():
        ended(run, Status.FAILED, error="no")
    lines = table_text(look(grid)).splitlines()
    assert [line for line in lines if line.startswith("failed:")][2:] == [
        "failed: 4 more; --json names all"
    ]
    assert len(table_json(look(grid))["details"]) == 6


def test_what_an_error_says_cannot_steer_the_terminal(runs, grid, slurm):
    run = next(iter(grid.runs()))
    ended(run, Status.FAILED, error="\x1b[2Jgone \u202e")
    text = table_text(look(grid))
    assert "\x1b" not in text
    assert "\u202e" not in text
    submission = submit(runs, list(grid.runs())[1:2])
    queue(slurm, "12_0 RUNNING n1")
    submission.say(0, 0, "refused", run=folder_of(list(grid.runs())[1]), error="\x1b[2J")
    assert "\x1b" not in table_text(look(grid))


def waiting(task, reason, state=State.QUEUED):
    queued = Queued("12", task, "PENDING", "", "", reason)
    submitted = SimpleNamespace(queued=queued)
    return SimpleNamespace(state=state, facts=SimpleNamespace(submitted=submitted))


def test_jobs_that_somebody_has_to_release_are_named():
    nothing = [
        waiting(0, "Resources"),
        waiting(1, "JobHeldUser", State.CANCELLED),
        SimpleNamespace(state=State.QUEUED, facts=SimpleNamespace(submitted=None)),
    ]
    assert held_text(nothing) == []
    held = [waiting(task, "launch failed requeued held") for task in (3, 3, 4)]
    [line] = held_text([*nothing, *held])
    assert line.endswith(": scontrol release 12_3 12_4")


def test_of_many_tasks_their_array_is_named():
    [line] = held_text(waiting(task, "JobHeldUser") for task in range(LISTED + 1))
    assert line.endswith(": scontrol release 12")
