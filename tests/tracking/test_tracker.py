"""The job's side: what it tells a follower, and how long it waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from retable.launch.worker import Exit, perform
from retable.runs.attempts import Attempt, new_attempt
from retable.tracking import follower, tracker
from retable.tracking.tracker import HURRY_S, Tracker
from support.runs import LAUNCHED, wait_for
from support.tracking import attempt_of, files_of, followed, is_alive, without


def attempt_at(run):
    folder = new_attempt(run.folder)
    return Attempt(folder, int(folder.name), run, LAUNCHED, "now", time.monotonic())


@pytest.fixture
def stuck(monkeypatch):
    """Trackers whose follower does what a command does."""

    def make(code, wait_s=1.0, in_a_hurry=lambda: False):
        def started(attempt):
            process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
            os.set_blocking(process.stdin.fileno(), False)
            made.processes.append(process)
            return process

        monkeypatch.setattr(tracker, "_started", started)
        made.append(Tracker(attempt_at(followed(f"logger.wait_s={wait_s}")), in_a_hurry))
        return made[-1]

    class Made(list):
        processes: list

    made = Made()
    made.processes = []
    yield make
    for process in made.processes:
        process.kill()
        process.communicate()


FOREVER = "import time; time.sleep(1000)"


def test_a_pipe_that_is_full_keeps_nobody_waiting(stuck):
    own = stuck(FOREVER)
    own.start(None)
    begin = time.monotonic()
    for _ in range(50_000):  # 300 kB; a pipe takes 64
        own.epoch()
    assert time.monotonic() - begin < 5
    process = own._process
    own.ended()
    assert process.poll() is not None


def test_it_is_waited_for_as_long_as_the_config_says(stuck, capfd):
    own = stuck(FOREVER, wait_s=0.5)
    own.start(None)
    begin = time.monotonic()
    own.ended()
    assert 0.5 <= time.monotonic() - begin < 3
    assert "was not ready" in capfd.readouterr().err
    own.ended()  # once more is nothing


@pytest.mark.slow
def test_a_job_that_was_told_to_stop_does_not_wait_so_long(stuck):
    stop = threading.Event()
    own = stuck(FOREVER, wait_s=1000, in_a_hurry=stop.is_set)
    own.start(None)
    stop.set()
    begin = time.monotonic()
    own.ended()
    assert HURRY_S - 0.1 <= time.monotonic() - begin < HURRY_S + 3


def test_a_follower_that_has_ended_costs_one_line(stuck, capfd):
    own = stuck("raise SystemExit(3)")
    own.start(None)
    own._process.wait()
    for _ in range(3):
        own.epoch()
    own.ended()
    assert capfd.readouterr().err.count("W&B: the follower") == 1


def test_orders_that_do_not_fit_into_the_pipe_end_it(stuck, capfd, monkeypatch):
    monkeypatch.setattr("retable.tracking.run_payload.config_of", lambda *_: {"x": "y" * 10**6})
    own = stuck(FOREVER)
    own.start(None)
    assert own._process is None
    assert "does not read" in capfd.readouterr().err


def test_it_is_told_all_that_it_needs(stuck):
    own = stuck("print(input())")
    resumed = own._attempt.folder.parent / "0"
    orders = follower.Orders(**json.loads(own._orders(resumed).line()))
    run = own._attempt.run
    assert (orders.key, orders.fingerprint, orders.paper) == (run.key, run.fingerprint, "digits")
    assert (orders.mode, orders.limit_s, orders.resumed) == ("offline", 1.0, str(resumed))
    assert set(orders.opening) == {"name", "group", "project", "entity", "config"}


@pytest.mark.slow
def test_the_run_s_process_does_not_import_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it here would fail
    threads = threading.active_count()
    run = followed(experiment="digits/smoke")
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert files_of(run)[0].exit_code == 0
    assert threading.active_count() == threads


@pytest.mark.slow
def test_variables_of_the_user_s_add_nothing(monkeypatch):
    for name, value in {
        "WANDB_NAME": "another",
        "WANDB_RUN_ID": "another",
        "WANDB_NOTES": "another",
        "WANDB_TAGS": "another",
        "WANDB_PROJECT": "another",
        "WANDB_DIR": "/nowhere",
        "WANDB_SERVICE": "another",
        "WANDB_RESUME": "must",
        "WANDB_USERNAME": "another",
    }.items():
        monkeypatch.setenv(name, value)
    run = followed(experiment="digits/smoke")
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    [file] = files_of(run)
    assert b"another" not in file.path.read_bytes()


def test_without_it_nothing_is_started(monkeypatch):
    monkeypatch.setattr(tracker, "_started", None)  # calling it would fail
    run = without(followed(experiment="digits/smoke"))
    with Tracker(attempt_at(run), lambda: False) as own:
        own.start(None)
        own.epoch()


def test_a_follower_whose_job_is_gone_before_it_says_anything_ends():
    run = followed()
    attempt = new_attempt(run.folder)
    process = tracker._started(attempt)
    process.stdin.close()
    wait_for(lambda: not is_alive(process.pid), 20)
    assert process.wait() == 0
    assert not (attempt_of(run) / "wandb.json").exists()


def test_its_signals_are_blocked_and_it_is_nobody_s_child_in_the_terminal():
    run = followed()
    process = tracker._started(new_attempt(run.folder))
    try:
        assert os.getsid(process.pid) == process.pid
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = [line.split() for line in lines]
        blocked = int(next(words[1] for words in status if words[0] == "SigBlk:"), 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            assert blocked & (1 << (number - 1)), number
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM}  # here it is not
    finally:
        process.kill()
        process.communicate()


def test_runs_that_are_done_again_at_a_side_are_not_followed(tmp_path):
    run = followed()
    aside = run.below(tmp_path / "side", logged=False)
    assert aside.config.logger.name == "none"
    assert aside.key == run.key
