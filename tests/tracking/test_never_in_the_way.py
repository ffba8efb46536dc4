"""Whatever happens to W&B, the run ends with the same numbers, and soon."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest

from retable.launch.worker import Exit, perform
from support.job import logged
from support.runs import LAUNCHED, wait_for
from support.tracking import (
    EPOCHS,
    attempt_of,
    check_as_without,
    ended,
    files_of,
    followed,
    follower_of,
    hold,
    is_alive,
    ledger_of,
    log_of,
    server,  # noqa: F401 - a fixture
    service_of,
    slow,
    start,
)

WAIT_S = 2


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["service", "follower", "both"])
def test_killed_in_mid_run(server, tmp_path, victim):
    run = slow()
    job = start(server, run)
    hold(run, job)
    follower = follower_of(job)
    service = service_of(follower)
    for name, pid in (("service", service), ("follower", follower)):
        if victim in (name, "both"):
            os.kill(pid, signal.SIGKILL)
    os.kill(job, signal.SIGCONT)
    assert ended(server) == [Exit.DONE]
    check_as_without(tmp_path, run)
    assert "W&B: the follower" in log_of(run)
    assert not ledger_of(run).finished  # so that a sync makes up for it
    wait_for(lambda: not (is_alive(follower) or is_alive(service)), 20)  # nothing is left over


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["service", "follower"])
def test_too_slow(server, tmp_path, victim):
    run = slow(f"logger.wait_s={WAIT_S}")
    job = start(server, run)
    hold(run, job)
    follower = follower_of(job)
    service = service_of(follower)
    os.kill(service if victim == "service" else follower, signal.SIGSTOP)
    os.kill(job, signal.SIGCONT)
    wait_for(lambda: (run.folder / "record.json").exists())
    begin = time.monotonic()
    assert ended(server) == [Exit.DONE]
    assert time.monotonic() - begin < WAIT_S + 3
    check_as_without(tmp_path, run)
    assert "W&B: the follower" in log_of(run)
    wait_for(lambda: not (is_alive(follower) or is_alive(service)), 20)


@pytest.mark.slow
def test_a_full_disk(server, tmp_path, runs, disk):
    (runs / "_wandb").parent.mkdir()
    (runs / "_wandb").symlink_to(disk.path)
    run = slow(f"logger.wait_s={WAIT_S}")
    job = start(server, run)
    hold(run, job)
    follower = follower_of(job)
    disk.fill(SimpleNamespace(started=[SimpleNamespace(pid=follower)]))
    os.kill(job, signal.SIGCONT)
    assert ended(server) == [Exit.DONE]
    check_as_without(tmp_path, run)
    told = [step for file in files_of(run) for step in file.steps]
    assert len(told) < EPOCHS, "the disk was not full"
    assert not ledger_of(run).finished


@pytest.mark.slow
def test_a_disk_that_is_full_from_the_start(tmp_path, runs, disk):
    (runs / "_wandb").parent.mkdir()
    (runs / "_wandb").symlink_to(disk.path)
    disk.fill(SimpleNamespace(started=[]))
    run = followed(f"logger.wait_s={WAIT_S}")
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    check_as_without(tmp_path, run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ["raise ImportError('no such thing')", "def init(**_): raise OSError('no')", ""]
)
def test_a_library_that_is_missing_or_broken(tmp_path, monkeypatch, content):
    (tmp_path / "path" / "wandb").mkdir(parents=True)
    (tmp_path / "path" / "wandb" / "__init__.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    run = followed()
    code, log = logged(run, 1)
    assert code is Exit.DONE
    check_as_without(tmp_path, run)
    assert log.count("W&B: the follower") == 1
    assert (attempt_of(run) / "wandb.log").read_text()


@pytest.mark.slow
def test_a_folder_that_cannot_be_made(tmp_path, runs):
    runs.mkdir()
    (runs / "_wandb").write_text("a file")
    run = followed()
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    check_as_without(tmp_path, run)


@pytest.mark.slow
def test_no_process_can_be_started(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    run = followed()
    code, log = logged(run, 1)
    assert code is Exit.DONE
    check_as_without(tmp_path, run)
    assert log.count("W&B: the follower could not be started") == 1
