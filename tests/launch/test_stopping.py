"""Interrupted and killed in every way, then called again: the record is the undisturbed one's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.worker import perform
from retable.runs import frozen, records
from retable.runs.lease import read_holder
from retable.runs.records import Status
from support.runs import LAUNCHED, checkpoints, newest, wait_for
from support.warm import COLD

SETTING = ["experiment=digits/base", "seed=0", "trainer.max_epochs=20"]


def freeze(*overrides):
    with hydra_ready():
        return frozen.freeze(compose([*SETTING, *overrides]))


@pytest.fixture
def undisturbed(tmp_path, monkeypatch):
    """Substance of a run's record where nothing happens to it; it does not sleep."""

    def of(*overrides):
        with monkeypatch.context() as patch:
            patch.setenv("RETABLE_RUNS", str(tmp_path / "undisturbed"))
            patch.setattr(time, "sleep", lambda _: None)
            run = freeze(*overrides)
            frozen.write(run)
            perform(run.folder, LAUNCHED)
        return records.read(run.folder / "record.json").substance()

    return of


@pytest.fixture
def shell(tmp_path):
    """Start the command line and leave it running; what is left at the end is killed."""
    started = []

    def start(*args, **env):
        process = subprocess.Popen(
            [sys.executable, "-m", "retable", "train", *SETTING, *args],
            cwd=tmp_path,
            env=os.environ | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_ctrl_c_is_clean_and_the_next_call_goes_on(shell, undisturbed):
    slow = "model.sleep=0.15"
    run = freeze(slow)
    process = shell(slow)
    wait_for(lambda: checkpoints(run))
    # A terminal sends it to the whole process group.
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "stopping: runs may finish their epoch for 20 s" in out
    assert "Traceback" not in out
    record = newest(run)
    assert record.status is Status.INTERRUPTED
    assert record.error.startswith("stopped after epoch")
    assert not (run.folder / "lease.json").exists()
    assert not (run.folder / "record.json").exists()
    again = shell(slow)
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0, out
    record = newest(run)
    assert record.status is Status.DONE
    assert record.attempt == 2
    assert 1 <= record.resumed_from_epoch < 20
    assert record.substance() == undisturbed(slow)


@pytest.mark.slow
def test_ctrl_c_twice_ends_it_at_once_and_nothing_is_lost(shell, undisturbed):
    # It would sleep for minutes: nobody waits for the end of an epoch.
    slow = "model.sleep=1.0"
    run = freeze(slow)
    process = shell(slow)
    wait_for(lambda: checkpoints(run))
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert time.monotonic() - begin < 5
    assert process.returncode != 0
    assert "Traceback" not in out
    assert not (run.folder / "record.json").exists()
    # Killed or, where the epoch ended just then, interrupted; never failed.
    assert newest(run) is None or newest(run).status is Status.INTERRUPTED
    # The next one need not wait; it runs in this process, quickly.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: None)
        assert perform(run.folder, LAUNCHED) == 0
    assert newest(run).resumed_from_epoch >= 1
    assert newest(run).substance() == undisturbed(slow)


@pytest.mark.slow
def test_a_killed_training_is_a_failure_and_goes_on_when_called_again(shell, undisturbed):
    slow = "model.sleep=0.3"
    run = freeze(slow)
    process = shell(slow)
    wait_for(lambda: len(checkpoints(run)) == 2)
    os.kill(read_holder(run.folder).pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "killed by SIGKILL (out of memory, or killed by someone)" in out
    record = newest(run)
    assert (record.status, record.attempt) == (Status.FAILED, 1)
    assert record.error.startswith("killed by SIGKILL")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: None)
        assert perform(run.folder, LAUNCHED) == 0
    assert newest(run).resumed_from_epoch >= 2
    assert newest(run).substance() == undisturbed(slow)


@pytest.mark.slow
def test_a_killed_launch_leaves_no_runner_behind(shell, undisturbed):
    slow = "model.sleep=0.3"
    run = freeze(slow)
    process = shell(slow)
    wait_for(lambda: checkpoints(run))
    holder = read_holder(run.folder)
    process.kill()
    wait_for(lambda: not holder.is_alive(), limit=10)
    wait_for(lambda: not (run.folder / "lease.json").exists(), limit=1)
    assert newest(run).status is Status.INTERRUPTED
    again = shell(slow)
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0, out
    assert newest(run).substance() == undisturbed(slow)


def starts_server(pid):
    """Whether a launch has begun: the process that will fork its runs is there."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    return any(b"retable.launch.forkserver_server" in command for command in commands)


@pytest.mark.slow
def test_ctrl_c_before_anything_has_started(shell, runs):
    process = shell(**{COLD: "1"})
    wait_for(lambda: starts_server(process.pid))
    time.sleep(0.5)
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert time.monotonic() - begin < 5
    assert process.returncode != 0
    assert "Traceback" not in out, out
    assert not runs.exists()


@pytest.mark.slow
def test_a_test_without_a_fit_is_left_between_batches(shell):
    only = [
        "stages=[test]",
        "trainer.max_epochs=null",
        "data.test_batch_size=10",
        "model.test_sleep=0.3",
    ]
    run = freeze(*only)
    process = shell(*only)
    wait_for(lambda: read_holder(run.folder))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    assert newest(run).status is Status.INTERRUPTED
    assert newest(run).error == "stopped in the test"


@pytest.mark.slow
def test_two_shells_do_every_run_once(shell, runs):
    """The same sweep from two shells at once."""
    sweep = ["-m", "seed=range(0,6)", "model.sleep=0.05", "trainer.max_epochs=4"]
    both = [shell(*sweep), shell(*sweep)]
    outs = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    folders = list((runs / "digits").iterdir())
    assert len(folders) == 6
    for folder in folders:
        assert [p.name for p in records.attempts(folder)] == ["1"]
        assert records.read(folder / "record.json").status is Status.DONE
        assert sorted(p.name for p in folder.iterdir()) == [
            "attempts",
            "config.yaml",
            "record.json",
        ]
