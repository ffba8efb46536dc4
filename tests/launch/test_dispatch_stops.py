"""The engine interrupted, and the engine with everything real."""

from __future__ import annotations

from dataclasses import replace

from engine_support import engine_of, fake, freeze, newest  # noqa: F401 - fake is a fixture
from retable.launch import dispatch
from retable.launch.dispatch import launch
from retable.launch.forkserver_client import Ended
from retable.launch.worker import perform
from retable.runs import records
from retable.runs.records import Status


def test_interrupts_stop_starting_then_end(fake, monkeypatch):
    import signal

    run = freeze("launcher.grace_s=5.0")
    made = engine_of(fake, run, run.with_seed(1))
    now = [100.0]
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: now[0])
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
    perform(folder, replace(dispatch.Launched(first.provenance), workers=1))
    assert newest(good[1]).substance() == (
        records.parse((folder / "kept.json").read_text(), "kept").substance()
    )
