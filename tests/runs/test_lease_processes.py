"""Leases between real processes: stopped ones, two shells at once, what the dead leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import pytest

from retable.launch.forkserver_client import Forkserver
from retable.launch.worker import Exit
from retable.runs import frozen, records
from retable.runs.identity import targets_of
from retable.runs.lease import FILE, Holder, is_held, read_holder
from retable.runs.records import Status
from support.fault import (
    counts,
    done_attempts,
    failures,
    fast_asleep,
    freeze,
    let_permissions_hold,
    owner,
    record_of,
    saved,
    undisturbed,
)
from support.runs import LAUNCHED, wait_for

SHORT = "launcher.lease_s=1.5"
CLEAN = ["attempts", "config.yaml", "record.json"]


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_RUNS", "unused")
        config = freeze().config
    with Forkserver(sorted(targets_of([config.data, config.model]))) as made:
        yield made


def start(server, run):
    """Start a run and wait until it has written its lease."""
    frozen.write(run)
    before = owner(run)
    server.start(run, LAUNCHED)
    wait_for(lambda: server.wait(0.02) or owner(run) not in (None, before))
    return owner(run)


def end(server):
    """How all that is running ended, by process."""
    ended = {}
    deadline = time.monotonic() + 120
    while server.busy:
        assert time.monotonic() < deadline, "still running"
        ended |= {e.pid: e for e in server.wait(0.2)}
    return ended


def stop(run, pid):
    """Stop a run's owner, and wait until others may take it for dead."""
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    wait_for(lambda: not is_held(run.folder, run.config.launcher.lease_s))
    return time.monotonic() - begin


@pytest.mark.slow
def test_a_stopped_owner_is_taken_over_and_leaves_when_it_goes_on(server, tmp_path):
    run = freeze(SHORT, "model.sleep=0.2", "trainer.max_epochs=8")
    first = start(server, run)
    wait_for(lambda: saved(run))
    assert is_held(run.folder, 1.5)
    assert stop(run, first) > 1, "before its time"
    second = start(server, run)
    os.kill(first, signal.SIGCONT)
    ended = end(server)
    assert (ended[first].code, ended[first].elsewhere) == (Exit.INTERRUPTED, True)
    assert (ended[second].code, ended[second].elsewhere) == (Exit.DONE, False)
    record = record_of(run, 1)
    assert record.status is Status.INTERRUPTED
    assert record.error.startswith("stopped after epoch ")
    assert record.error.endswith(": another runner has taken the run over")
    assert done_attempts(run) == [2]
    assert record_of(run).attempt == 2
    assert record_of(run).resumed_from_epoch >= 1
    assert [record_of(run).substance()] == undisturbed(tmp_path, run)
    assert not (run.folder / FILE).exists()


@pytest.mark.slow
def test_stopped_after_its_last_look_it_ends_and_replaces_nothing(server):
    run = freeze(SHORT, "model.test_sleep=3", "trainer.max_epochs=1")
    first = start(server, run)
    wait_for(lambda: saved(run))
    wait_for(lambda: fast_asleep(first))  # it is in the one batch of its test
    stop(run, first)
    second = start(server, run)
    wait_for(lambda: record_of(run))
    published = (run.folder / "record.json").read_bytes()
    os.kill(first, signal.SIGCONT)
    ended = end(server)
    assert (ended[first].code, ended[first].elsewhere) == (Exit.DONE, True)
    assert (ended[second].code, ended[second].elsewhere) == (Exit.DONE, False)
    assert (run.folder / "record.json").read_bytes() == published
    assert record_of(run).attempt == 2
    assert record_of(run, 1).substance() == record_of(run).substance()


def test_a_busy_owner_of_this_machine_is_not_taken_for_dead(server):
    """However late its heartbeat is: it lives, and is not stopped."""
    run = freeze(SHORT, "model.sleep=0.3", "trainer.max_epochs=4")
    first = start(server, run)
    os.utime(run.folder / FILE, (1, 1))
    assert is_held(run.folder, 1.5)
    assert read_holder(run.folder).is_alive()
    assert end(server)[first].code == Exit.DONE


@pytest.mark.slow
def test_two_shells_where_the_owner_is_stopped_and_goes_on(shell, tmp_path):
    setting = [SHORT, "model.sleep=0.25", "trainer.max_epochs=8"]
    run = freeze(*setting)
    command = ["train", "experiment=digits/base", "seed=0", *setting]
    one = shell.start(*command)
    wait_for(lambda: saved(run))
    os.kill(stopped := owner(run), signal.SIGSTOP)
    two = shell.start(*command)
    _, err = shell.end(two)
    assert counts(err) == {"run": 1, "already done": 0}
    assert done_attempts(run) == [2]
    published = (run.folder / "record.json").read_bytes()
    os.kill(stopped, signal.SIGCONT)
    out, err = shell.end(one)
    assert counts(err) == {"run": 0, "already done": 0, "done by another runner": 1}
    assert "status: done (attempt 2" in out
    assert done_attempts(run) == [2]
    assert record_of(run, 1).status is Status.INTERRUPTED
    assert (run.folder / "record.json").read_bytes() == published
    assert [record_of(run).substance()] == undisturbed(tmp_path, run)
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "attempts",
        "config.yaml",
        "record.json",
    ]


@pytest.mark.slow
def test_one_table_from_two_shells_at_once(shell, runs):
    both = [shell.start("run", "digits/accuracy", "launcher.workers=2") for _ in range(2)]
    ends = [shell.end(process) for process in both]
    folders = list((runs / "digits").iterdir())
    assert len(folders) == 6
    for folder in folders:
        assert [p.name for p in records.attempts(folder)] == ["1"]
        assert records.read(folder / "record.json").status is Status.DONE
    told = [counts(err) for _, err in ends]
    assert [sum(count.values()) for count in told] == [6, 6]
    assert sum(count["run"] for count in told) == 6, "each run was done by one of them"
    assert ends[0][0] == ends[1][0]
    assert "6 runs" in ends[0][0]


@pytest.mark.slow
def test_leases_that_others_have_left_are_broken_in_time(shell):
    """A dead process, a reused pid, another host's name, a clock that jumped back, garbage."""
    lease_s = 4.0
    me = Holder.me()
    dead = shell.start("--version")
    dead.wait()
    left = {
        "dead process": (replace(me, nonce="x", pid=dead.pid), 0),
        "reused pid": (replace(me, nonce="x", started=str(int(me.started) - 1)), 0),
        "other host, long ago": (replace(me, nonce="x", host="node-17"), -1000),
        "other host, just now": (replace(me, nonce="x", host="node-17"), 0),
        "other host, in the future": (replace(me, nonce="x", host="node-17"), 7200),
        "garbage, in the future": (None, 7200),
    }
    runs = [freeze(experiment="digits/smoke", seed=seed) for seed in range(len(left))]
    at = time.time()
    for run, (holder, offset) in zip(runs, left.values(), strict=True):
        frozen.write(run)
        text = '{"nonce": ' if holder is None else json.dumps(holder.__dict__)
        (run.folder / FILE).write_text(text)
        os.utime(run.folder / FILE, (at + offset, at + offset))
    seeds = f"seed=range(0,{len(left)})"
    process = shell.start(
        "train", "-m", "experiment=digits/smoke", seeds, f"launcher.lease_s={lease_s}"
    )
    _, err = shell.end(process)
    assert counts(err) == {"run": len(left), "already done": 0}
    for run, name in zip(runs, left, strict=True):
        assert record_of(run).attempt == 1
        assert sorted(p.name for p in run.folder.iterdir()) == CLEAN, name
        waited = (run.folder / "attempts").stat().st_mtime - at
        if name in ("other host, just now", "other host, in the future", "garbage, in the future"):
            assert waited > lease_s, f"{name}: broken before its time"


@pytest.mark.slow
def test_a_folder_that_is_read_only_or_vanishes_costs_its_own_run_alone(shell, tmp_path):
    setting = ["model.sleep=0.3", "trainer.max_epochs=5"]
    runs = [freeze(*setting, seed=seed) for seed in range(4)]
    closed, closing, vanishing, other = runs
    closed.folder.mkdir(parents=True)
    closed.folder.chmod(0o555)
    command = ["train", "-m", "experiment=digits/base", "seed=range(0,4)", *setting]
    command.append("launcher.workers=4")
    process = shell.start(*command, before=let_permissions_hold)
    wait_for(lambda: saved(closing))
    attempt = closing.folder / "attempts" / "1"
    for folder in (attempt, attempt / "checkpoints"):
        folder.chmod(0o555)
    wait_for(lambda: saved(vanishing))
    vanishing.folder.rename(tmp_path / "vanished")
    shutil.rmtree(tmp_path / "vanished")
    _, err = shell.end(process, 1)
    for folder in (closed.folder, attempt, attempt / "checkpoints"):
        folder.chmod(0o755)
    assert counts(err) == {"run": 1, "already done": 0, "failed": 3}
    lines = failures(err)
    assert len(lines) == 3
    for start, rest in (
        (closed.folder, ": cannot be written (Permission denied)"),
        (attempt, ": Permission denied; make it writable and run it again"),
        (
            vanishing.folder,
            ": vanished while the run was going on; leave it in place and run it again",
        ),
    ):
        assert [x for x in lines if str(start) in x and x.endswith(rest)], (rest, lines)
    assert record_of(other).status is Status.DONE
    _, err = shell.call(*command, before=let_permissions_hold)
    assert counts(err) == {"run": 3, "already done": 1}
    assert [record_of(run).attempt for run in runs] == [1, 2, 1, 1]
    assert record_of(closing).resumed_from_epoch >= 1
    assert [record_of(run).substance() for run in runs] == undisturbed(tmp_path, *runs)
