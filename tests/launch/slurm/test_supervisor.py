"""Every way in which a run of a task can end, with a forkserver that forks nothing."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from retable.launch.forkserver_client import Ended
from retable.launch.slurm import supervisor
from retable.launch.worker import perform
from retable.runs import records
from retable.runs.records import Status
from support.engine import Bench, dies
from support.job import (
    LAUNCHED,
    written,
)
from support.runs import record_of


def done(run, stop=None):
    """Do a run here; its exit code."""
    return perform(run.folder, LAUNCHED, stop)


def test_runs_are_done_and_nothing_is_left(fake, runs):
    bench = Bench(runs, written(), written(seed=1)).go()
    assert bench.said == [("ended", Status.DONE)] * 2
    assert (bench.supervisor.ok, bench.supervisor.left) == (True, {})


def test_a_killed_run_is_started_again_once_and_then_failed(fake, runs):
    run, sibling = written(), written(seed=1)

    def script(one, pid):
        if one is run:
            dies(one, pid)
            return -signal.SIGKILL
        return done(one)

    fake.script = script
    bench = Bench(runs, run, sibling).go()
    assert [event for event, _ in bench.events] == ["killed", "ended", "killed", "ended"]
    assert not bench.supervisor.ok
    assert bench.supervisor.left == {}
    assert record_of(sibling).status is Status.DONE
    for number in (1, 2):
        record = record_of(run, number)
        assert record.status is Status.FAILED
        assert record.error.startswith("killed by SIGKILL (out of memory")
    failed = [about for event, about in bench.events if about.get("status") == Status.FAILED]
    assert failed[0]["error"].startswith("killed by SIGKILL")


def test_a_kill_in_an_earlier_start_of_the_job_counts(fake, runs):
    run = written()
    name = str(run.folder.relative_to(runs))

    def script(one, pid):
        dies(one, pid)
        return -signal.SIGKILL

    fake.script = script
    bench = Bench(runs, run, past=[{"event": "killed", "run": name}]).go()
    assert [event for event, _ in bench.events] == ["killed", "ended"]
    assert len(records.attempts(run.folder)) == 1


def test_a_run_that_was_killed_after_it_was_done_is_done(fake, runs):
    run = written()

    def script(one, pid):
        done(one)
        return -signal.SIGKILL

    fake.script = script
    bench = Bench(runs, run).go()
    assert bench.said == [("ended", Status.DONE)]
    assert bench.supervisor.ok


@pytest.mark.parametrize(
    ("fail", "status"), [("raise", Status.FAILED), ("diverge", Status.DIVERGED)]
)
def test_a_fault_of_its_own_is_final_and_the_siblings_go_on(fake, runs, fail, status):
    run, sibling = written(f"model.fail={fail}"), written(seed=1)
    bench = Bench(runs, run, sibling).go()
    assert sorted(s for e, s in bench.said) == sorted([status, Status.DONE])
    assert len(records.attempts(run.folder)) == 1
    assert not bench.supervisor.ok
    assert bench.supervisor.left == {}
    (line,) = [about["error"] for _, about in bench.events if about.get("error")]
    assert str(run.folder) in line


def test_changed_code_is_refused_with_the_reason(fake, runs, monkeypatch):
    run = written()
    monkeypatch.setattr(
        fake, "wait", lambda self, timeout: [Ended(self.running.popitem()[1], 1, 2, error="why")]
    )
    bench = Bench(runs, run).go()
    assert bench.said == [("refused", "why")]
    assert not bench.supervisor.ok


def test_a_run_is_given_up_after_so_many_attempts_without_an_epoch(fake, runs):
    run, sibling = written("launcher.max_attempts=3"), written("launcher.max_attempts=3", seed=1)

    def script(one, pid):
        if one is run:
            dies(one, pid)
            return -signal.SIGALRM  # it is told to leave over and over, and never does in time
        return done(one)

    fake.script = script
    bench = Bench(runs, run, sibling).go()
    assert bench.said[-1] == ("gave up", "3 attempts in a row without a new epoch")
    assert ("ended", Status.DONE) in bench.said
    record = record_of(run, 4)
    assert (record.status, record.error) == (Status.FAILED, bench.said[-1][1])
    assert not (run.folder / "lease.json").exists()
    assert not bench.supervisor.ok
    assert bench.supervisor.left == {}


def test_attempts_before_the_submission_do_not_count_against_a_run(fake, runs):
    run = written("launcher.max_attempts=2")
    for number in (1, 2):
        (run.folder / "attempts" / str(number)).mkdir(parents=True)
    bench = Bench(runs, run, before=2).go()
    assert bench.said == [("ended", Status.DONE)]


@pytest.mark.parametrize(
    ("why", "number", "status", "error"),
    [
        ("terminated", signal.SIGTERM, Status.INTERRUPTED, "terminated within an epoch"),
        (
            "time limit",
            signal.SIGUSR2,
            Status.TIMEOUT,
            "stopped before the time limit within an epoch",
        ),
    ],
)
def test_an_epoch_that_does_not_end_in_time_is_dropped(
    fake, runs, monkeypatch, why, number, status, error
):
    run, later = written(), written(seed=1)
    bench = Bench(runs, run, later)

    def wait(self, timeout):
        pid, one = next(iter(self.running.items()))
        if signal.SIGKILL not in fake.log:
            if bench.told.why is None:
                with pytest.MonkeyPatch.context() as then:
                    then.setattr(time, "time", lambda: 1000.0)  # long ago
                    bench.told.tell(why)
            return []
        del self.running[pid]
        dies(one, pid)
        return [Ended(one, pid, -signal.SIGKILL)]

    monkeypatch.setattr(fake, "wait", wait)
    bench.go()
    assert fake.log[:3] == [run, number, signal.SIGKILL]
    assert bench.said == [("stopping", None), ("ended", status)]
    assert bench.events[1][1]["error"] == error
    record = record_of(run, 1)
    assert (record.status, record.error) == (status, error)
    assert not (run.folder / "lease.json").exists(), "another node would have to wait"
    assert list(bench.supervisor.left) == [run.key, later.key]
    assert bench.supervisor.ok


def test_a_run_that_was_told_alone_is_started_again(fake, runs):
    told = threading.Event()
    told.set()

    def script(one, pid):
        code = done(one, told)
        told.clear()
        return code

    fake.script = script
    run = written("trainer.max_epochs=2")
    bench = Bench(runs, run).go()
    assert bench.said == [("ended", Status.INTERRUPTED), ("ended", Status.DONE)]
    assert record_of(run).resumed_from_epoch == 1


def test_a_process_that_ends_with_its_job_is_not_judged(fake, runs, monkeypatch):
    """SLURM kills the processes of a job one after the other; this one last."""
    monkeypatch.setattr(supervisor, "_SUSPENSE_S", 60.0)
    run = written("model.fail=raise")
    bench = Bench(runs, run)

    class Killed(BaseException):
        pass

    def die(seconds):
        raise Killed

    monkeypatch.setattr(time, "sleep", die)
    with pytest.raises(Killed):
        bench.go()
    assert bench.said == []
