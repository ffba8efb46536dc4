"""All that is submitted and going on, in one look."""

from __future__ import annotations

import os
import time

from retable.launch.slurm.sacct import Accounting
from retable.launch.slurm.submission import Entry
from retable.monitor import overview
from retable.monitor.overview_text import overview_json, overview_text
from retable.runs import frozen
from retable.runs.records import Status
from support.follow import (
    begun,
    ended,
    folder_of,
    hold,
    queue,
    submit,
)


def overview_of(runs):
    return overview.overview_of(runs, Accounting())


def test_nothing_at_all(runs, slurm):
    found = overview_of(runs)
    assert overview_text(found) == f"nothing is submitted and nothing runs below {runs}"
    assert not found.goes_on
    assert slurm.calls() == []


def test_a_line_per_submission_and_per_run_without_a_job(runs, grid, slurm):
    six = list(grid.runs())
    over = submit(runs, six[:2], job="5", name="20250101T000000-aaaaaa", label="digits/old")
    over.close()
    ended(six[0])
    submit(runs, *([run] for run in six[2:5]))
    queue(slurm, "12_0 RUNNING n1", "12_1 PENDING Priority")
    ended(six[4], Status.DIVERGED, error="loss is nan")
    slurm.answer("sacct", "5_0|TIMEOUT|0:0|n1\n")
    frozen.write(six[5])
    begun(six[5], {"epoch": 0, "val/loss": 0.5})
    hold(six[5].folder)
    found = overview_of(runs)
    lines = overview_text(found).splitlines()
    assert lines[0] == (
        "open  digits/fates  2026-01-01 00:00 by ada on login, cluster dev: 3 runs, 1 running,"
        " 1 queued, 1 diverged; job 12"
    )
    assert lines[1].startswith(f"    running: {six[2].key[:8]}: ")
    assert lines[2].startswith(f"    diverged: {six[4].key[:8]}: loss is nan (")
    assert lines[3] == (
        "over  digits/old  2026-01-01 00:00 by ada on login, cluster dev: 2 runs, 1 done, 1 lost;"
        " job 5"
    )
    assert lines[4].startswith(f"    lost: {six[1].key[:8]}: ")
    assert lines[4].endswith(f"retable logs {six[1].key[:8]})")
    assert lines[5].startswith(f"here  digits/base s2 {six[5].key[:8]}: epoch 1 of 4, val/loss 0.5")
    assert len(lines) == 6
    assert found.goes_on
    assert [call[0] for call in slurm.calls()] == ["squeue", "sacct"]
    plain = overview_json(found)
    assert [one["runs"]["lost"] for one in plain["submissions"]] == [0, 1]
    assert plain["local"][0]["epochs"] == 4


def test_old_submissions_are_not_shown(runs, grid, slurm, monkeypatch):
    run = next(iter(grid.runs()))
    for number in range(4):
        name = f"2025010{number}T000000-aaaaaa"
        submission = submit(runs, [run], job=str(number), name=name)
        submission.close()
    long_ago = time.time() - overview.RECENT_S - 60
    os.utime(submission.folder / "closed", (long_ago, long_ago))
    ended(run)
    assert len(overview_of(runs).submitted) == 3
    monkeypatch.setattr(overview, "RECENT", 2)
    assert [one.submission.folder.name[:8] for one in overview_of(runs).submitted] == ["20250102"]


def test_a_run_that_is_done_again_counts_by_what_is_done_again(runs, grid, slurm):
    run = next(iter(grid.runs()))
    ended(run, fingerprint="f" * 64)
    submit(runs, [Entry(folder=f"_again/{'a' * 16}/{folder_of(run)}", home=folder_of(run))])
    queue(slurm, "12_0 PENDING Priority")
    (one,) = overview_of(runs).submitted
    assert {state.value: count for state, count in one.counts.items()} == {"queued": 1}


def test_jobs_before_and_after_are_told(runs, grid, slurm):
    run = next(iter(grid.runs()))
    submission = submit(runs, [run])
    chores = {"prepare": "11", "publish": "20"}
    submission.write(submission.header.model_copy(update={"chores": chores}))
    name = submission.folder.name
    slurm.answer(
        "squeue",
        f"12|0|PENDING||30:00|Priority|retable {name} 0\n"
        f"20|N/A|PENDING||30:00|Dependency|retable {name} publish\n",
    )
    assert overview_text(overview_of(runs)).endswith(
        "job 12; prepare: job 11 over; publish: job 20 PENDING"
    )


def test_a_broken_submission_is_named_beside_the_others(runs, grid, slurm):
    six = list(grid.runs())
    submit(runs, six[:1])
    queue(slurm, "12_0 RUNNING n1")
    broken = submit(runs, six[1:2], job="5", name="20250101T000000-aaaaaa")
    broken.close()
    (broken.folder / "array-0.json").write_text("{")
    found = overview_of(runs)
    assert len(found.submitted) == 1
    assert "array-0.json: broken" in overview_text(found).splitlines()[-1]


def test_only_some_configs_are_read(runs, grid, slurm, monkeypatch):
    monkeypatch.setattr(overview, "DESCRIBED", 1)
    for run in list(grid.runs())[:3]:
        frozen.write(run)
        hold(run.folder)
    found = overview_of(runs).local
    assert [one.epoch is not None for one in found] == [True, False, False]
