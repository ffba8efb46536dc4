"""One runner per run, whatever happens to runners and clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from retable.runs import lease
from retable.runs.lease import FILE, Holder, Lease, is_held, read_holder

# Take the lease, say so, hold it until told.
HOLD = """
import sys
from pathlib import Path
from retable.runs.lease import Lease
held = Lease.acquire(Path(sys.argv[1]), 60)
print("taken" if held else "refused", flush=True)
sys.stdin.readline()
if held:
    held.release()
"""
# Race for the lease many times; each winner checks that it is alone.
RACE = """
import os, sys, time
from pathlib import Path
from retable.runs.lease import Lease
folder, inside, wins = Path(sys.argv[1]), Path(sys.argv[1]) / "inside", 0
end = time.monotonic() + 2
while time.monotonic() < end:
    held = Lease.acquire(folder, 60)
    if held is None:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    wins += 1
    inside.unlink()
    held.release()
print(wins)
"""


def python(code, *args):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write(folder, holder, *, age=0.0):
    text = holder if isinstance(holder, str) else json.dumps(holder.__dict__)
    (folder / FILE).write_text(text)
    now = time.time()
    os.utime(folder / FILE, (now - age, now - age))


def elsewhere():
    return replace(Holder.me(), host="another-host", pid=1)


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name != FILE]


def take(folder, lease_s=60.0):
    """Take the lease and give it back; whether it could be taken."""
    held = Lease.acquire(folder, lease_s)
    if held is not None:
        held.release()
    return held is not None


def test_processes_exclude_each_other(tmp_path):
    racers = [python(RACE, tmp_path) for _ in range(3)]
    wins = []
    for racer in racers:
        out, err = racer.communicate(timeout=30)
        assert racer.returncode == 0, err
        wins.append(int(out))
    assert sum(wins) > 10
    assert sum(1 for n in wins if n) >= 2, wins
    assert list(tmp_path.iterdir()) == []


def test_taken_by_a_living_process_broken_at_once_when_it_dies(tmp_path):
    other = python(HOLD, tmp_path)
    assert other.stdout.readline() == "taken\n"
    # However old: a process of this machine that lives is known to live.
    os.utime(tmp_path / FILE, (1, 1))
    assert is_held(tmp_path, 60)
    assert not take(tmp_path)
    other.kill()
    # Not even reaped: a zombie holds nothing.
    end = time.monotonic() + 5
    while is_held(tmp_path, 60) and time.monotonic() < end:
        time.sleep(0.02)
    assert take(tmp_path)
    other.communicate()
    assert leftovers(tmp_path) == []


def test_released_by_its_owner(tmp_path):
    held = Lease.acquire(tmp_path, 60)
    assert is_held(tmp_path, 60)
    assert Lease.acquire(tmp_path, 60) is None, "not even twice by one process"
    held.release()
    assert list(tmp_path.iterdir()) == []
    assert not is_held(tmp_path, 60)


def test_a_reused_pid_is_not_its_owner(tmp_path):
    me = Holder.me()
    write(tmp_path, replace(me, nonce="x", started=str(int(me.started) - 1)))
    assert take(tmp_path)


def test_the_machine_has_started_again(tmp_path):
    """Same host, other boot: nothing can be told from pids, age decides."""
    write(tmp_path, replace(Holder.me(), nonce="x", boot="other"), age=30)
    assert not take(tmp_path)
    write(tmp_path, replace(Holder.me(), nonce="x", boot="other"), age=90)
    assert take(tmp_path)


def test_another_container_on_this_machine_is_judged_by_age(tmp_path):
    write(tmp_path, replace(Holder.me(), nonce="x", namespace="pid:[1]", pid=999_999_999))
    assert not take(tmp_path)


def test_another_host_is_judged_by_the_age_of_its_heartbeat(tmp_path):
    write(tmp_path, elsewhere(), age=55)
    assert is_held(tmp_path, 60)
    assert not take(tmp_path)
    assert read_holder(tmp_path).host == "another-host"
    write(tmp_path, elsewhere(), age=65)
    assert not is_held(tmp_path, 60)
    assert take(tmp_path)


def test_a_clock_that_jumped_back_breaks_nothing(tmp_path):
    write(tmp_path, elsewhere(), age=-3600)
    assert not take(tmp_path)


def test_age_is_read_off_the_file_servers_clock(tmp_path, monkeypatch):
    """This machine's clock is an hour ahead, or behind; nobody asks it."""
    write(tmp_path, elsewhere(), age=5)
    real = time.time
    for skew in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda skew=skew: real() + skew)
        assert not take(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"pid": 1}', '"x"', "\x00\x01", '{"nonce": "a", "b": 1}']
)
def test_garbage_waits_its_time_and_is_broken(tmp_path, text):
    write(tmp_path, text, age=10)
    assert read_holder(tmp_path) is None
    assert not take(tmp_path)
    write(tmp_path, text, age=70)
    assert take(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lease_taken_meanwhile_is_put_back(tmp_path):
    """Seen dead (or broken), but renamed only after another runner had taken it."""
    for seen in (replace(Holder.me(), nonce="dead"), None):
        held = Lease.acquire(tmp_path, 60)
        lease._break(tmp_path, seen)
        assert read_holder(tmp_path) == held.holder
        held.release()
        assert list(tmp_path.iterdir()) == []


def test_the_heartbeat_keeps_it(tmp_path):
    held = Lease.acquire(tmp_path, 0.3)
    try:
        os.utime(tmp_path / FILE, (1, 1))
        time.sleep(0.15)
        assert time.time() - (tmp_path / FILE).stat().st_mtime < 10
        assert not held.lost.is_set()
    finally:
        held.release()


def test_lost_to_another_and_left_to_it(tmp_path):
    held = Lease.acquire(tmp_path, 0.3)
    write(tmp_path, elsewhere())
    assert held.lost.wait(5)
    held.release()
    assert read_holder(tmp_path).host == "another-host"


def test_missing_for_a_moment_is_not_lost(tmp_path):
    held = Lease.acquire(tmp_path, 0.3)
    (tmp_path / FILE).unlink()
    end = time.monotonic() + 5
    while not (tmp_path / FILE).exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert read_holder(tmp_path) == held.holder
    assert not held.lost.is_set()
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_a_vanished_folder_does_no_harm(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    held = Lease.acquire(folder, 0.1)
    (folder / FILE).unlink()
    folder.rename(tmp_path / "moved")
    time.sleep(0.1)
    held.release()


def test_the_slurm_job_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    held = Lease.acquire(tmp_path, 60)
    assert read_holder(tmp_path).job == "4711"
    held.release()
