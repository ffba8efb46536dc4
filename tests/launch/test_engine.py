"""The engine: what is started, what is not, and what is said about how it ended."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import replace

import pytest

from retable import records
from retable.compose import compose, hydra_ready
from retable.errors import UserError
from retable.launch import engine, frozen
from retable.launch.engine import Summary, launch
from retable.launch.job import Exit, new_attempt, perform
from retable.launch.lease import Holder, Lease
from retable.launch.local import Ended
from retable.records import Status


def freeze(*overrides, experiment="digits/smoke", seed=0):
    with hydra_ready():
        return frozen.freeze(compose([f"experiment={experiment}", f"seed={seed}", *overrides]))


def newest(run):
    return records.read(records.attempts(run.folder)[0] / "record.json")


class Fake:
    """Stands in for the forkserver: performs here, or ends as a script says.

    A script is a function of the run that returns an exit code.
    """

    script = None
    log: list
    most = 0

    def __init__(self, targets, source=None):
        self.running = {}
        self.pid = 900_000_000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self, run, launched):
        self.pid += 1
        self.running[self.pid] = run
        self.launched = launched
        Fake.log.append(run)
        Fake.most = max(Fake.most, len(self.running))

    @property
    def busy(self):
        return len(self.running)

    def wait(self, timeout):
        pid, run = next(iter(self.running.items()))
        del self.running[pid]
        script = Fake.script or (lambda run, pid: perform(run.folder, self.launched))
        return [Ended(run, pid, int(script(run, pid)))]

    def signal_all(self, number):
        Fake.log.append(number)


@pytest.fixture
def fake(monkeypatch):
    Fake.script, Fake.log, Fake.most = None, [], 0
    monkeypatch.setattr(engine, "Forkserver", Fake)
    return Fake


def dies(run, pid, *, attempt=True):
    """Leave what a killed process leaves: its lease, and an attempt without a record."""
    me = Holder.me()
    (run.folder / "lease.json").write_text(json.dumps({**me.__dict__, "pid": pid, "started": "1"}))
    if attempt:
        new_attempt(run.folder)


def test_done_is_skipped_and_not_touched(fake):
    run, other = freeze(), freeze(seed=1)
    assert launch([run]) == Summary(done=1)
    changed = (run.folder / "record.json").stat().st_mtime_ns
    frozen_at = (run.folder / "config.yaml").stat().st_mtime_ns
    assert launch([run, other]) == Summary(done=1, skipped=1)
    assert launch([run, other]) == Summary(skipped=2)
    assert len(fake.log) == 2
    assert (run.folder / "record.json").stat().st_mtime_ns == changed
    assert (run.folder / "config.yaml").stat().st_mtime_ns == frozen_at


def test_the_same_run_twice_is_done_once(fake):
    assert launch([freeze(), freeze(), freeze().with_seed(0)]) == Summary(done=1)
    assert len(fake.log) == 1
    assert launch([]) == Summary()


def test_diverged_is_skipped_unless_forced(fake):
    run = freeze("model.fail=diverge")
    first = launch([run])
    assert (first.diverged, first.ok) == (1, False)
    assert launch([run]) == Summary(skipped=1)
    assert launch([run], retry_diverged=True).diverged == 1
    assert newest(run).attempt == 2


def test_failed_starts_again_and_stops_no_other(fake, capsys):
    runs = [freeze("model.fail=raise"), freeze(), freeze("model.fail=diverge"), freeze(seed=1)]
    for number in (1, 2):
        summary = launch(runs)
        [(failed, message)] = summary.failed
        assert failed is runs[0]
        assert message == (
            f"RuntimeError: asked to <b>fail</b> ({runs[0].folder}/attempts/{number})"
        )
        assert not summary.ok
        assert message in capsys.readouterr().err
    assert (summary.done, summary.skipped) == (0, 3)


def test_workers_bound_what_goes_on_at_once(fake):
    runs = [freeze("launcher.workers=3").with_seed(seed) for seed in range(5)]
    assert launch(runs).done == 5
    assert fake.most == 3
    assert newest(runs[0]).workers == 3
    assert engine.workers_of(freeze("device.threads=1000")) == 1
    assert engine.workers_of(freeze()) == len(os.sched_getaffinity(0))


def test_a_process_that_dies_leaves_a_failed_record(fake):
    run, other = freeze(), freeze(seed=1)
    fake.script = lambda r, pid: (dies(r, pid), -9 if r is run else 9)[1]
    summary = launch([run, other])
    assert [message for _, message in summary.failed] == [
        f"killed by SIGKILL (out of memory, or killed by someone) ({run.folder}/attempts/1)",
        f"its process ended with exit code 9 and left no result ({other.folder}/attempts/1)",
    ]
    record = newest(run)
    assert (record.status, record.attempt) == (Status.FAILED, 1)
    assert record.error.startswith("killed by SIGKILL")
    assert (record.key, record.fingerprint) == (run.key, run.fingerprint)
    fake.script = None
    assert launch([run, other]).done == 2
    assert newest(run).attempt == 2


@pytest.mark.parametrize("code", list(Exit))
def test_an_exit_code_without_what_belongs_to_it_is_a_failure(fake, code):
    """A library that calls ``_exit`` may use any of our codes."""
    run = freeze()
    fake.script = lambda r, pid: (dies(r, pid), code)[1]
    summary = launch([run])
    [(_, message)] = summary.failed
    assert f"exit code {int(code)} and left no result" in message
    assert newest(run).status is Status.FAILED


def test_an_older_failure_is_not_taken_for_this_one(fake):
    run = freeze("model.fail=raise")
    launch([run])
    fake.script = lambda r, pid: (dies(r, pid, attempt=False), -11)[1]
    [(_, message)] = launch([run]).failed
    assert message == "killed by SIGSEGV"
    assert newest(run).error == "RuntimeError: asked to <b>fail</b>"


def test_the_death_of_one_runner_is_not_written_into_anothers_attempt(fake):
    run = freeze()

    def script(r, pid):
        # Killed; before we look, another launch has taken the run.
        new_attempt(r.folder)
        script.held = Lease.acquire(r.folder, 60)
        new_attempt(r.folder)
        return -9

    fake.script = script
    [(_, message)] = launch([run]).failed
    script.held.release()
    assert message.startswith("killed by SIGKILL")
    assert not list(run.folder.glob("attempts/*/record.json"))


def test_refused_runs_are_counted_as_failed(fake):
    run = freeze()
    fake.script = lambda *_: Exit.REFUSED
    [(_, message)] = launch([run]).failed
    assert message == "refused to start; the reason is above"


def test_held_elsewhere_is_waited_for(fake, monkeypatch):
    monkeypatch.setattr(engine, "_WAIT_FOR_OTHERS_S", 0.05)
    run, other = freeze(), freeze(seed=1)
    frozen.write(run)
    held = [Lease.acquire(run.folder, 60)]
    looked = []
    real = engine.is_held

    def is_held(folder, lease_s):
        looked.append(folder)
        if len(looked) == 3:
            # It was done there.
            held.pop().release()
            perform(run.folder, engine.Launched(engine.provenance.collect(run.folder.parents[1])))
        return real(folder, lease_s)

    monkeypatch.setattr(engine, "is_held", is_held)
    summary = launch([run, other])
    assert (summary.done, summary.elsewhere) == (1, 1)
    assert summary.ok
    assert len(looked) == 3
    assert fake.log == [run, other], "started again and again while it was held"


def test_freed_elsewhere_without_a_record_is_taken_over(fake, monkeypatch):
    monkeypatch.setattr(engine, "_WAIT_FOR_OTHERS_S", 0.05)
    run = freeze()
    frozen.write(run)
    held = Lease.acquire(run.folder, 60)
    real = engine.is_held
    monkeypatch.setattr(engine, "is_held", lambda *a: (held.release(), real(*a))[1])
    assert launch([run]) == Summary(done=1)
    assert fake.log == [run, run]


def test_what_cannot_be_launched_together_is_refused_before_anything_is_written(fake, runs):
    pairs = [
        ("launcher", freeze(), freeze("launcher.workers=1", seed=1)),
        ("paths", freeze(), freeze("paths.cache=/elsewhere", seed=1)),
    ]
    for section, one, two in pairs:
        with pytest.raises(UserError, match=f"{section}: differs between runs of one launch"):
            launch([one, two])
    assert not runs.exists()
    assert not fake.log


@pytest.mark.parametrize("below", [False, True])
def test_a_folder_of_runs_that_cannot_be_written_is_refused(fake, runs, below):
    runs.write_text("a file")
    place = runs / "below" if below else runs
    with pytest.raises(UserError, match=r"paths.runs: .*runs.* cannot be written to"):
        launch([freeze(f"paths.runs={place}")])


def test_a_run_whose_folder_cannot_be_written_stops_no_other(fake):
    run, other = freeze(), freeze(seed=1)
    run.folder.parent.mkdir(parents=True)
    run.folder.write_text("in the way")
    summary = launch([run, other])
    assert summary.done == 1
    [(failed, message)] = summary.failed
    assert failed is run
    assert "cannot be written (" in message


def test_a_broken_record_is_named_and_done_again(fake, capsys):
    run = freeze()
    launch([run])
    # In place: the attempt's record is the same file.
    (run.folder / "record.json").write_text("{")
    assert launch([run]) == Summary(done=1)
    assert f"warning: {run.folder}/record.json: broken record" in capsys.readouterr().err
    assert newest(run).attempt == 2


def test_summaries_of_batches_add_up():
    run = freeze()
    total = Summary.of(
        [Summary(done=1, failed=[(run, "a")]), Summary(done=2, skipped=3, stopped=True)]
    )
    assert total == Summary(done=3, skipped=3, failed=[(run, "a")], stopped=True)
    assert Summary.of([]) == Summary()
    assert Summary.of([]).ok


def test_the_frozen_run_is_what_is_asked_for_now(fake):
    """An unkeyed change reaches a run that had been frozen before."""
    first = freeze()
    frozen.write(first)
    second = freeze("launcher.lease_s=33.0")
    assert launch([second]) == Summary(done=1)
    assert frozen.read(first.folder).config.launcher.lease_s == 33.0


def engine_of(fake, *runs):
    """An engine in the middle of its work."""
    made = engine._Engine(deque(runs), Summary(), lambda r: r.label)
    made.progress = engine.Progress(len(runs), shown=False)
    made.server = fake([])
    return made


def test_interrupts_stop_starting_then_end(fake, monkeypatch):
    import signal

    run = freeze("launcher.grace_s=5.0")
    made = engine_of(fake, run, run.with_seed(1))
    now = [100.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    made._heed_interrupts()
    assert fake.log == []
    made._interrupt()
    made._heed_interrupts()
    made._heed_interrupts()
    assert fake.log == [signal.SIGTERM], "told once"
    assert made.summary.stopped
    assert not made.summary.ok
    now[0] += 5.1
    made._heed_interrupts()
    assert fake.log == [signal.SIGTERM, signal.SIGKILL]
    # What is killed while we stop was interrupted, not failed.
    made._settle(Ended(run, 1, -9))
    assert made.summary.interrupted == 1
    assert not made.summary.failed
    # Nothing more is started.
    made._loop(None)
    assert run not in fake.log

    second = engine_of(fake, run)
    fake.log.clear()
    second._interrupt()
    second._interrupt()
    second._heed_interrupts()
    assert fake.log == [signal.SIGTERM, signal.SIGKILL], "a second one does not wait"


def test_for_real(monkeypatch, capfd, runs):
    """Real processes: one launch with everything that can happen."""
    good = [freeze("launcher.workers=2").with_seed(seed) for seed in range(3)]
    bad = {
        name: freeze("launcher.workers=2", f"model.fail={name}")
        for name in ("raise", "diverge", "exit", "kill")
    }
    bad["silent"] = freeze("launcher.workers=2", "model.fail=exit", "model.exit_code=0")
    bad["five"] = freeze("launcher.workers=2", "model.fail=exit", "model.exit_code=5")
    summary = launch([*bad.values(), *good, good[0]])
    assert summary.done == 3
    assert summary.diverged == 1
    messages = {run.key: message for run, message in summary.failed}
    assert {name: messages.get(run.key, "").partition(" (/")[0] for name, run in bad.items()} == {
        "raise": "RuntimeError: asked to <b>fail</b>",
        "diverge": "",
        "exit": "its process ended with exit code 9 and left no result",
        "kill": "killed by SIGKILL (out of memory, or killed by someone)",
        "silent": "its process ended with exit code 0 and left no result",
        "five": "its process ended with exit code 5 and left no result",
    }
    for name, run in bad.items():
        record = newest(run)
        assert record.status is (Status.DIVERGED if name == "diverge" else Status.FAILED)
        assert record.error
        assert not (run.folder / "record.json").exists()
    for run in good:
        assert newest(run).workers == 2
        assert newest(run).threads == 1
    first = newest(good[0])
    assert (runs / "_store" / f"{first.provenance.packages}.txt").is_file()
    assert len(list((runs / "_store").iterdir())) <= 2
    # The same bits as in this process.
    folder = good[1].folder
    (folder / "record.json").rename(folder / "kept.json")
    (folder / "attempts").rename(folder / "kept")
    perform(folder, replace(engine.Launched(first.provenance), workers=1))
    assert newest(good[1]).substance() == (
        records.parse((folder / "kept.json").read_text(), "kept").substance()
    )
