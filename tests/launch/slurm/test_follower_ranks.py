"""What the other tasks of a step do, with a server that starts nothing."""

from __future__ import annotations

import json
import signal

import pytest

from retable.launch import multiprocess
from retable.launch.forkserver_client import Ended
from retable.launch.multiprocess import Announcement
from retable.launch.slurm import follower_ranks
from retable.launch.slurm.follower_ranks import _Follower, is_over, nonce_of
from retable.launch.worker import Exit
from retable.runs import frozen
from support.runs import freeze


def started(restart):
    return {"event": "started", "restart": restart}


LEFT = {"event": "left", "code": 0}


@pytest.mark.parametrize(
    ("events", "over"),
    [
        ([], False),
        ([started(1)], False),
        ([started(1), {"event": "ended"}, LEFT], True),
        ([started(0), LEFT], False),
        ([started(0), LEFT, started(1)], False),
        ([started(0), started(1), LEFT], True),
        ([started(1), LEFT, started(2)], True),
    ],
)
def test_it_is_over_when_the_first_task_has_left_in_this_start_of_the_job(events, over):
    assert is_over(events, 1) is over


def test_every_start_of_a_job_has_a_nonce_of_its_own():
    assert nonce_of({"SLURM_JOB_ID": "7"}) == nonce_of(
        {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0", "SLURM_PROCID": "1"}
    )
    others = [{"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}]
    assert len({nonce_of(e) for e in [*others, {"SLURM_JOB_ID": "8"}]}) == 3


class Server:
    """Stands in for the forkserver."""

    def __init__(self):
        self.told, self.running, self.next = [], {}, []

    @property
    def busy(self):
        return len(self.running)

    def follow(self, run, part):
        self.told.append((run, part))
        self.running[900_000_000 + len(self.told)] = run

    def wait(self, timeout):
        ended, self.next = self.next, []
        for one in ended:
            del self.running[one.pid]
        return ended

    def end(self, code, error=None):
        pid, run = next(iter(self.running.items()))
        self.next.append(Ended(run, pid, int(code), error=error))


@pytest.fixture
def follower(monkeypatch):
    monkeypatch.setattr(follower_ranks, "_LOOK_S", 0.0)
    runs = [freeze(seed=seed) for seed in range(2)]
    for run in runs:
        frozen.write(run)
    return _Follower(Server(), runs, 1, 3, "7-0")


def announce(run, number, nonce="7-0"):
    attempt = run.folder / "attempts" / str(number)
    attempt.mkdir(parents=True)
    said = Announcement(nonce, "here", 1, 2, None)
    (attempt / multiprocess.ANNOUNCEMENT).write_text(json.dumps(said.__dict__))
    return attempt


@pytest.fixture
def killed(monkeypatch):
    pids = []
    monkeypatch.setattr(follower_ranks.os, "kill", lambda pid, number: pids.append((pid, number)))
    return pids


def test_what_is_announced_is_followed_once(follower):
    server, (first, second) = follower.server, follower.runs
    follower.step()
    announce(second, 1, nonce="7-1")
    (first.folder / "attempts" / "1").mkdir(parents=True)
    follower.step()
    assert server.told == [], "an old announcement, and an attempt without one"
    attempt = announce(second, 2)
    for _ in range(3):
        follower.step()
    part = {"attempt": str(attempt), "rank": 1, "nonce": "7-0", "index": 3}
    assert server.told == [(second, part)]
    server.end(Exit.DONE)
    for _ in range(2):
        follower.step()
    assert len(server.told) == 1
    assert not list(attempt.glob("*.error"))


def test_a_new_attempt_is_followed_when_the_part_in_the_old_one_is_gone(follower, killed):
    server, (run, _) = follower.server, follower.runs
    announce(run, 1)
    follower.step()
    announce(run, 2)
    follower.step()
    assert killed == [(900_000_001, signal.SIGKILL)]
    assert len(server.told) == 1
    server.end(-signal.SIGKILL)
    follower.step()
    follower.step()
    assert [part["attempt"][-1] for _, part in server.told] == ["1", "2"]


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (-signal.SIGKILL, None, "process 1: killed by SIGKILL (out of memory, or by someone)"),
        (-signal.SIGSEGV, None, "process 1: killed by SIGSEGV"),
        (Exit.REFUSED, "the code changed", "process 1: the code changed"),
        (Exit.FAILED, None, None),
        (Exit.INTERRUPTED, None, None),
    ],
)
def test_why_a_part_ended_is_left_for_the_first_process(follower, code, error, reason):
    attempt = announce(follower.runs[0], 1)
    follower.step()
    follower.server.end(code, error)
    follower.step()
    path = attempt / "rank-1.error"
    assert (path.read_text() if path.exists() else None) == reason


def test_what_outlives_the_record_of_its_attempt_is_killed(follower, killed, monkeypatch):
    monkeypatch.setattr(follower_ranks, "END_S", 0.0)
    attempt = announce(follower.runs[0], 1)
    follower.step()
    follower.step()
    assert killed == []
    (attempt / "record.json").write_text("{}")
    follower.step()
    follower.step()
    assert killed[0] == (900_000_001, signal.SIGKILL)
    follower.server.end(-signal.SIGKILL)
    follower.step()
    assert not list(attempt.glob("*.error")), "nobody has to be told"
