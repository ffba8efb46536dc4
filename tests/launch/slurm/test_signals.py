"""When a job leaves, how long it waits for an epoch, and when it queues itself again."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time

import pytest

from retable.launch.slurm.signals import Told, TooEarly


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still at 1000 s, unless it is moved."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    return now


def told(*whys, end=math.inf, signal_s=90.0):
    one = Told(signal_s)
    one.end = end
    for why in whys:
        one.tell(why)
    return one


@pytest.mark.usefixtures("clock")
def test_terminated_runs_have_the_grace_time():
    assert told("terminated").patience(20) == 1020


@pytest.mark.parametrize(
    ("end", "until"),
    [
        (math.inf, 1080),  # SLURM does not say when it ends: the time that was asked for
        (1090, 1080),
        (1140, 1130),  # told earlier than asked for: the time is there, so it is used
        (5000, 1080),  # somebody else has sent the signal
        (1005, 1000),  # later than asked for
    ],
)
@pytest.mark.usefixtures("clock")
def test_an_epoch_may_end_until_a_little_before_the_time_limit(end, until):
    assert told("time limit", end=end).patience(20) == until


@pytest.mark.usefixtures("clock")
def test_the_margin_is_no_more_than_half_of_a_short_notice():
    assert told("time limit", signal_s=8.0).patience(20) == 1004


def test_being_terminated_while_the_time_limit_comes_shortens_the_wait(clock):
    one = told("time limit")
    clock[0] = 1003
    one.tell("terminated")
    assert one.patience(20) == 1023
    clock[0] = 1010
    one.tell("terminated")
    assert one.patience(20) == 1023, "the wait begins once"


def test_the_first_reason_stays(clock):
    one = told("terminated", "time limit")
    assert one.why == "terminated"
    assert not one.may_requeue
    assert clock == [1000.0]


@pytest.mark.usefixtures("clock")
def test_only_the_time_limit_is_answered_with_a_requeue():
    assert told("time limit").may_requeue
    assert told("time limit", end=1080).may_requeue
    # SLURM preempts it, or a user has cancelled it, meanwhile.
    assert not told("time limit", "terminated", end=1080).may_requeue
    assert not told("time limit", "terminated").may_requeue
    # Its time is over, as it had been told.
    assert told("time limit", "terminated", end=1000).may_requeue
    assert not told("terminated").may_requeue
    assert not told().may_requeue


def test_the_clock_speaks_where_the_signal_was_lost(clock):
    one = told(end=1100)
    one.look_at_clock()
    assert one.why is None
    clock[0] = 1011
    one.look_at_clock()
    assert one.why == "time limit"
    clock[0] = 1e9
    unlimited = told()
    unlimited.look_at_clock()
    assert unlimited.why is None


def test_the_end_is_what_slurm_says(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1234")
    assert Told().end == 1234
    monkeypatch.setenv("SLURM_JOB_END_TIME", "Unknown")
    assert Told().end == math.inf


def test_a_job_that_has_not_begun_leaves_at_once(monkeypatch):
    one = told()
    kept = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR2)]
    try:
        one.listen()
        with pytest.raises(TooEarly), one.raising():
            signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)  # only where nothing has begun
        assert (one.why, one.may_requeue) == ("time limit", False)
        with pytest.raises(TooEarly), one.raising():
            pytest.fail("it was told before")
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGUSR2), kept, strict=True):
            signal.signal(number, handler)


def test_it_listens_before_anything_heavy_is_imported():
    script = "import sys, retable.launch.slurm.signals; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    assert "retable.launch.slurm.signals" in out.split()
    assert not {"pydantic", "yaml", "numpy", "torch"} & set(out.split())
