"""What a run has printed, of every kind of run, and following it to its end."""

from __future__ import annotations

import threading
import time

import pytest

from retable.monitor import logs
from retable.monitor.logs import Logs
from retable.runs import frozen, records
from retable.runs.records import Status
from support.follow import (
    begun,
    ended,
    hold,
    queue,
    submit,
)


@pytest.fixture
def run(grid):
    return next(iter(grid.runs()))


def test_files_of_the_newest_attempt_and_of_the_job(runs, run, slurm):
    submission = submit(runs, [run])
    for attempt in (1, 2):
        begun(run, attempt=attempt)
        (run.folder / "attempts" / str(attempt) / "log.txt").write_text(f"attempt {attempt}\n")
    (submission.folder / "log" / "0-0.txt").write_text("of the job\n")
    found = Logs.of(run.folder)
    assert found.log == run.folder / "attempts" / "2" / "log.txt"
    assert found.job.read_text() == "of the job\n"
    assert (found.attempts, found.job_id, found.traceback) == (2, "12_0", None)


def test_a_run_that_is_frozen_only_has_its_state(runs, run, slurm):
    frozen.write(run)
    assert Logs.of(run.folder) == Logs(run.folder, 0, None, None, None, "")
    assert logs.state_text(run.folder) == "to do"
    assert slurm.calls() == []
    submit(runs, [run])
    queue(slurm, "12_0 PENDING Resources")
    assert logs.state_text(run.folder) == "queued: Resources"


def test_a_traceback_that_the_log_has_is_not_said_twice(run):
    folder = begun(run)
    (folder / "traceback.txt").write_text("Traceback\nValueError: no\n")
    assert Logs.of(run.folder).rest_of_traceback() == "Traceback\nValueError: no\n"
    (folder / "log.txt").write_text("begins\nTraceback\nValueError: no\n\nValueError: no\n")
    assert Logs.of(run.folder).rest_of_traceback() == ""


def test_a_dead_controller_does_not_hide_the_log(runs, run, slurm):
    submit(runs, [run])
    slurm.answer("squeue", error="Unable to contact slurm controller", code=1)
    assert logs.state_text(run.folder).startswith("unknown: slurmctld does not answer")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(logs, "_READ_EVERY_S", 0.02)
    monkeypatch.setattr(logs, "_LOOK_EVERY_S", 0.05)


def followed(run, said):
    out = b""

    def go():
        nonlocal out
        for piece in logs.pieces(run.folder, lambda found: found.log, said.append):
            out += piece

    thread = threading.Thread(target=go)
    thread.start()
    return thread, lambda: out


def until(check):
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_following_goes_over_attempts_to_the_end(runs, run, slurm, quick):
    submit(runs, [run])
    queue(slurm, "12_0 PENDING Priority")
    said = []
    thread, out = followed(run, said)
    first = begun(run) / "log.txt"
    hold(run.folder)
    first.write_text("one\n")
    until(lambda: out() == b"one\n")
    with first.open("a") as file:
        file.write("two\n")
    ended(run, Status.INTERRUPTED)
    (run.folder / "lease.json").unlink()
    until(lambda: out() == b"one\ntwo\n")
    assert thread.is_alive()  # it is in the queue, and will go on
    hold(run.folder)
    second = begun(run, attempt=2) / "log.txt"
    second.write_text("three\n")
    until(lambda: out().endswith(b"three\n"))
    with second.open("a") as file:
        file.write("the end\n")
    ended(run, attempt=2)
    (run.folder / "lease.json").unlink()
    thread.join(20)
    assert not thread.is_alive()
    assert out() == b"one\ntwo\nthree\nthe end\n"
    assert said == [str(first), str(second), "done"]


def test_following_ends_where_nobody_will_go_on(runs, run, slurm, quick):
    (begun(run) / "log.txt").write_text("killed\n")
    said = []
    thread, out = followed(run, said)
    thread.join(20)
    assert out() == b"killed\n"
    assert said[-1] == "to do"
    assert records.attempts(run.folder)
