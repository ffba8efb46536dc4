"""Runs on this machine: Ctrl-C, once and twice, and everything real."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from retable.launch import local
from retable.launch.dispatch import launch
from retable.launch.forkserver_client import Ended
from retable.launch.progress import Progress
from retable.launch.summary import Summary, Tally
from retable.launch.worker import perform
from retable.runs import records
from retable.runs.attempts import Launched
from retable.runs.records import Status
from retable.tracking.wandb_mode import Followed
from retable.util.errors import UserError
from support.job import LAUNCHED
from support.runs import freeze, newest


def stopped(fake, monkeypatch, *seconds):
    """Summary of two runs, one at a time; Ctrl-C comes after each of these seconds."""
    run = freeze("launcher.grace_s=5.0")
    tally = Tally(Summary(), Progress(2, shown=False), lambda run: run.label)
    runs, now = [run, run.with_seed(1)], [100.0]
    monkeypatch.setattr(local.time, "monotonic", lambda: now[0])

    def wait(self, timeout):
        if signal.SIGKILL in fake.log:
            pid, one = self.running.popitem()
            return [Ended(one, pid, -signal.SIGKILL)]
        now[0] += 1
        if now[0] - 100 in seconds:
            signal.raise_signal(signal.SIGINT)
        fake.log.append(f"{now[0] - 100:g} s")
        return []

    monkeypatch.setattr(fake, "wait", wait)
    pool = local.Local(runs, replace(LAUNCHED, workers=1), tally, Followed(runs))
    previous = signal.signal(signal.SIGINT, pool.interrupt)
    try:
        pool.keep_going(fake([]))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert fake.log[0] is run
    assert runs[1] not in fake.log, "nothing more is started"
    return tally.summary


def test_ctrl_c_ends_runs_at_the_end_of_their_epoch_or_of_their_grace(fake, monkeypatch):
    summary = stopped(fake, monkeypatch, 2)
    seconds = [f"{second} s" for second in range(1, 9)]
    order = [*seconds[:2], signal.SIGTERM, *seconds[2:], signal.SIGKILL]
    assert fake.log[1:11] == order, "told once"
    # What is killed while we stop was interrupted, not failed.
    assert summary == Summary(interrupted=1, stopped=True)
    assert not summary.ok


def test_a_second_ctrl_c_does_not_wait(fake, monkeypatch):
    summary = stopped(fake, monkeypatch, 2, 3)
    assert fake.log[1:6] == ["1 s", "2 s", signal.SIGTERM, "3 s", signal.SIGKILL]
    assert summary == Summary(interrupted=1, stopped=True)


@pytest.mark.slow
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
    perform(folder, Launched(first.provenance))
    assert newest(good[1]).substance() == (
        records.parse((folder / "kept.json").read_text(), "kept").substance()
    )


@pytest.mark.parametrize("copied", [True, False])
def test_code_that_changes_while_it_is_read_is_not_run(fake, monkeypatch, copied):
    """Its records would name a commit that did not compute them."""
    found = iter([["one commit"], ["another"]])
    monkeypatch.setattr(local.provenance, "code", lambda _: next(found))
    run = freeze(f"launcher.snapshot={copied}")
    with pytest.raises(UserError, match="changed while it was read"):
        local.launch([run], Summary(), lambda run: run.label)
    assert not fake.log
