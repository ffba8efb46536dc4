"""Launches on one machine that wait for each other, and runs that are alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import datetime

import pytest

from retable.launch import local
from retable.launch.dispatch import launch
from retable.launch.turns import turn
from retable.util.errors import UserError
from support.runs import freeze, newest, wait_for


def begun(cache, *, alone):
    """A launch in a thread of its own: whether it has its turn, what it said, and how to end it."""
    has, over, said = threading.Event(), threading.Event(), []

    def go():
        with turn(cache, alone=alone, say=said.append):
            has.set()
            over.wait(20)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return has, said, lambda: (over.set(), thread.join(20))


def test_what_measures_time_waits_for_others_and_they_for_it(tmp_path):
    first, quiet, end_first = begun(tmp_path / "cache", alone=False)
    assert first.wait(10)
    second, _, end_second = begun(tmp_path / "cache", alone=False)
    assert second.wait(10)
    timed, said, end_timed = begun(tmp_path / "cache", alone=True)
    wait_for(lambda: said)
    end_first()
    assert not timed.wait(0.3)
    end_second()
    assert timed.wait(10)
    late, heard, end_late = begun(tmp_path / "cache", alone=False)
    wait_for(lambda: heard)
    assert not late.is_set()
    end_timed()
    assert late.wait(10)
    end_late()
    assert quiet == []
    assert said == [
        "waiting until another launch on this machine has ended: what measures time runs alone"
    ]
    assert heard == ["waiting until another launch on this machine has measured its times"]


def test_a_launch_that_was_killed_keeps_nobody_waiting(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from retable.launch.turns import turn\n"
        "with turn(Path(sys.argv[1]), alone=True, say=print): print('in', flush=True);"
        " time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"in\n"
        has, said, end = begun(tmp_path, alone=False)
        wait_for(lambda: said)
        holder.send_signal(signal.SIGKILL)
        assert has.wait(10)
        end()


def begin(record):
    return datetime.fromisoformat(record.started).timestamp()


@pytest.mark.slow
def test_timed_runs_come_last_and_one_by_one_for_real():
    timed = [freeze("launcher.workers=2", "launcher.alone=true", seed=seed) for seed in (0, 1)]
    others = [freeze("launcher.workers=2", seed=seed) for seed in (1, 2, 3)]
    assert others[0].key == timed[1].key  # wanted by two tables: alone
    assert launch([*others, *timed]).done == 4
    found = [newest(run) for run in timed]
    assert [(record.alone, record.workers) for record in found] == [(True, 1)] * 2
    beside = [newest(run) for run in others[1:]]
    assert [(record.alone, record.workers) for record in beside] == [(False, 2)] * 2
    first, second = sorted(found, key=begin)
    assert max(map(begin, beside)) <= begin(first)
    assert begin(second) >= begin(first) + first.wall_s - 1  # started is in whole seconds


def test_what_starts_from_a_timed_run_comes_behind_it():
    parent = freeze("launcher.alone=true")

    class Child:
        config, key, chain = freeze(seed=1).config, "child", (parent,)

    other = freeze(seed=2)
    parts = list(local._parts([other, parent, Child], None))
    assert [(runs, launched.alone) for runs, launched in parts] == [
        ([other], False),
        ([parent, Child], True),
    ]


@pytest.mark.parametrize("alone", ["true", "false"])
def test_where_nothing_can_be_locked_only_timed_runs_are_refused(tmp_path, alone, fake):
    file = tmp_path / "file"
    file.touch()
    run = freeze(f"launcher.alone={alone}", f"paths.cache={file}")
    if alone == "false":
        assert launch([run]).done == 1
        return
    with pytest.raises(UserError, match=r"paths\.cache: no launch can be alone here: .*file"):
        launch([run])
    assert not run.folder.exists()
