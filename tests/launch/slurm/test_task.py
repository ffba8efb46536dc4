"""A task of a job array as a process of its own: signals, restarts, exit codes, what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable.runs import records
from retable.runs.records import Status
from support.runs import checkpoints, record_of, wait_for
from support.task import (
    SLOW,
    Job,
    finish,
    freeze,
    holder_of,
)
from support.warm import COLD

AUDIT = """
import sys
def look(event, about):
    if event == "import" and about[0] == "torch" or event == "subprocess.Popen":
        with open({trace!r}, "a") as file:
            file.write(event)
sys.addaudithook(look)
"""


@pytest.fixture
def nothing_heavy(tmp_path):
    """A module path with which a process that imports torch or starts another one is found out."""
    trace = tmp_path / "trace"
    (tmp_path / "path").mkdir()
    text = AUDIT.format(trace=str(trace))
    (tmp_path / "path" / "sitecustomize.py").write_text(text)
    yield str(tmp_path / "path")
    assert not trace.exists()


def test_a_job_with_nothing_left_to_do_exits_at_once_without_torch(job, nothing_heavy):
    fast = ["data.train_size=100", "trainer.max_epochs=1"]
    run, unpublished = freeze(*fast), freeze(*fast, seed=1)
    for one in (run, unpublished):
        finish(one)
    (unpublished.folder / "record.json").unlink()
    one = job([run, unpublished])
    out = one.run(PYTHONPATH=nothing_heavy)
    assert [e["event"] for e in one.events()] == ["started", "left"]
    assert record_of(unpublished).status is Status.DONE
    started = one.events("started")[0]
    assert started["job"] == "70_0"
    assert (started["id"], started["restart"], started["node"]) == ("71", 0, "n1")
    assert "left code=0" in out.splitlines()[-1]
    assert len(records.attempts(run.folder)) == 1


def test_what_failed_before_makes_a_restarted_job_fail_at_once(job, nothing_heavy):
    run = freeze()
    one = job([run])
    one.submission.say(
        0, 0, "ended", run=one.submission.tasks(0).tasks[0][0].folder, status="failed"
    )
    one.run(1, PYTHONPATH=nothing_heavy)
    assert one.events("left") == [one.events()[-1]]
    assert not records.attempts(run.folder)


def test_edited_configs_are_refused_and_never_rewritten(job, nothing_heavy):
    run, moved = freeze(), freeze(seed=1)
    path = run.folder / "config.yaml"
    edited = path.read_text().replace("train_size: 600", "train_size: 500")
    path.write_text(edited)
    other = moved.folder / "config.yaml"
    other.write_text(other.read_text().replace("/runs\n", "/elsewhere\n"))
    one = job([run, moved])
    one.run(1, PYTHONPATH=nothing_heavy)
    said = [e["error"] for e in one.events("refused")]
    assert said[0].endswith("its key does not follow from its config; it was edited")
    assert said[1].endswith("paths.runs in its config is another folder")
    assert path.read_text() == edited
    assert not records.attempts(run.folder)
    assert one.requeued() == []


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [([], 2, "usage: "), (["/nowhere", "0"], 2, "/nowhere/array-0.json: cannot be read")],
)
def test_wrong_calls_are_answered_in_one_line(job, arguments, code, reason, monkeypatch):
    one = job([freeze()])
    monkeypatch.setattr(Job, "arguments", lambda self: arguments)
    out = one.run(code)
    assert reason in out
    assert len(out.splitlines()) == 1


@pytest.mark.slow
def test_at_the_time_limit_runs_end_their_epoch_and_the_job_requeues_itself(job, undisturbed):
    # More epochs than the other run may take to begin.
    long = "trainer.max_epochs=20"
    run, other = freeze(SLOW, long, "data.num_workers=2"), freeze(SLOW, long, seed=1)
    one = job([run, other], at_once=2)
    one.start(**{COLD: "1"})  # the environment of its runs is looked at
    wait_for(lambda: checkpoints(run) and checkpoints(other))
    assert "SLURM_JOB_ID=71" in environment_of(run)
    seen = [name for name in environment_of(run) if name.startswith("SLURM_")]
    assert {name.partition("=")[0] for name in seen} <= {
        "SLURM_CONF",
        "SLURM_JOB_ID",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
    }, "Lightning would take the job for its own"
    assert holder_of(run)["job"] == "71"
    one.signal(signal.SIGUSR2)
    out = one.wait()
    assert one.requeued() == ["requeue 70_0"]
    first, *between, requeued, left = [e["event"] for e in one.events()]
    # The runs are told by the same signal, and one may be at an epoch's end just then.
    assert (first, requeued, left) == ("started", "requeued", "left")
    assert sorted(between) == ["ended", "ended", "stopping"]
    assert one.events("stopping")[0]["why"] == "time limit"
    for each in (run, other):
        record = record_of(each, 1)
        assert record.status is Status.TIMEOUT
        assert record.error.startswith("stopped after epoch")
        assert record.error.endswith(", before the time limit")
        assert record.workers == 2
        assert not (each.folder / "lease.json").exists()
    assert len(out.splitlines()) == len(one.events()), "a line for each event, and no other"
    one.run()
    assert one.events("started")[1]["restart"] == 1
    for each in (run, other):
        assert record_of(each).resumed_from_epoch >= 1
        assert record_of(each).substance() == undisturbed(each)
    assert one.requeued() == ["requeue 70_0"]
    assert not one.processes()


def environment_of(run):
    pid = holder_of(run)["pid"]
    return Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")


@pytest.mark.slow
def test_what_is_heavy_is_found_out(tmp_path, nothing_heavy):
    for script in ("import torch.optim", "import subprocess; subprocess.run(['true'])"):
        command = [sys.executable, "-c", script]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": nothing_heavy}, check=True)
        (tmp_path / "trace").unlink()


def test_a_job_that_never_begins_before_its_limit_gives_up(job):
    """Such as where the notice is longer than the limit."""
    run = freeze("launcher.max_attempts=2")
    one = job([run])
    soon = str(int(time.time()) + 5)
    for _ in range(2):
        one.run(SLURM_JOB_END_TIME=soon)
    one.run(1, SLURM_JOB_END_TIME=soon)
    (gave_up,) = one.events("gave up")
    assert gave_up["error"] == "the time limit came 2 times before it had begun"
    assert record_of(run, 1).status is Status.FAILED
    assert one.requeued() == ["requeue 70_0"] * 2


def test_a_cancelled_task_is_not_requeued(job):
    one = job([freeze()])
    one.submission.cancel([(0, 0)])
    one.run(143, SLURM_JOB_END_TIME=str(int(time.time()) + 5))
    assert one.requeued() == []


def test_a_controller_that_does_not_answer_is_asked_again(job):
    one = job([freeze()])
    one.code.write_text("1")
    one.start(SLURM_JOB_END_TIME=str(int(time.time()) + 30))
    wait_for(lambda: len(one.requeued()) == 2)
    assert not one.events("requeued")
    one.code.write_text("0")
    one.wait()
    assert len(one.events("requeued")) == 1
