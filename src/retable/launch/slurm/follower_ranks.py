"""The other tasks of a job's step, which follow the first one in every attempt that it makes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retable.launch.forkserver_client import Ended, Forkserver
from retable.launch.multiprocess import END_S, announced, killed_by, leave_reason
from retable.launch.slurm.submission import Submission
from retable.launch.worker import Exit
from retable.runs import frozen, records
from retable.runs.frozen import FrozenRun
from retable.util.errors import UserError

_LOOK_S = 0.3


def nonce_of(environment: Mapping[str, str]) -> str:
    """Nonce shared by all processes of one start of a job, and by those of no other."""
    restart = environment.get("SLURM_RESTART_COUNT") or 0
    return f"{environment.get('SLURM_JOB_ID', '')}-{restart}"


def follow_task(submission: Submission, array: int, number: int) -> int:
    """Do the part of a task of the step that is not its first; it ends when that one does.

    Args:
        submission: what was submitted.
        array: number of the array.
        number: of its task.

    Returns:
        An exit code: 0, for what has failed is the first task's to say.
    """
    rank, local = (int(os.environ.get(f"SLURM_{n}") or 0) for n in ("PROCID", "LOCALID"))
    # Tasks see the GPUs of all tasks of their node, unless the cluster binds one to each.
    index = local if "," in os.environ.get("CUDA_VISIBLE_DEVICES", "") else 0
    runs: list[FrozenRun] = []
    for entry in submission.tasks(array).tasks[number]:
        try:
            runs.append(frozen.read(submission.runs / entry.folder))
        except UserError:
            continue  # refused by the first task, which says so
    source = submission.header.source
    targets = {target for run in runs for target in run.targets}
    restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    with Forkserver(sorted(targets), Path(source) if source else None, supervised=True) as server:
        follower = _Follower(server, runs, rank, index, nonce_of(os.environ))
        while not is_over(submission.events(array, number), restart):
            follower.step()
        follower.end()
    return 0


def is_over(events: Sequence[Mapping[str, Any]], restart: int) -> bool:
    """Whether the first task has left in this start of the job."""
    mine = False
    for event in events:
        if event["event"] == "started":
            mine = event.get("restart") == restart
        elif event["event"] == "left" and mine:
            return True
    return False


@dataclass
class _Part:
    """A process that follows in an attempt, and when the attempt was seen to be over."""

    attempt: Path
    over: float | None = None


class _Follower:
    """Starts a process for every attempt that is announced, and sees to its end."""

    def __init__(
        self, server: Forkserver, runs: Sequence[FrozenRun], rank: int, index: int, nonce: str
    ) -> None:
        self.server, self.runs, self.nonce = server, runs, nonce
        self.rank, self.index = rank, index
        self._followed: set[Path] = set()
        self._parts: dict[str, _Part] = {}

    def step(self) -> None:
        """Start what has been announced, and end what has no one to follow any more."""
        for run in self.runs:
            attempt = next(iter(records.attempts(run.folder)), None)
            if attempt is None or attempt in self._followed or not announced(attempt, self.nonce):
                continue
            if str(run.folder) in self._parts:
                self._kill(str(run.folder))  # it follows in an attempt that is over
                continue
            self._followed.add(attempt)
            self._parts[str(run.folder)] = _Part(attempt)
            self.server.follow(run, self._command(attempt))
        if self.server.busy:
            for ended in self.server.wait(_LOOK_S):
                self._settle(ended)
        else:
            time.sleep(_LOOK_S)
        for folder, part in self._parts.items():
            if part.over is None and (part.attempt / records.RUN_RECORD).exists():
                part.over = time.monotonic()
            if part.over is not None and time.monotonic() > part.over + END_S:
                self._kill(folder)

    def _command(self, attempt: Path) -> dict[str, Any]:
        return {
            "attempt": str(attempt),
            "rank": self.rank,
            "nonce": self.nonce,
            "index": self.index,
        }

    def _settle(self, ended: Ended) -> None:
        part = self._parts.pop(str(ended.run.folder))
        if ended.code < 0 and part.over is None:
            leave_reason(part.attempt, self.rank, killed_by(ended.code))
        elif ended.code == Exit.REFUSED:
            leave_reason(part.attempt, self.rank, ended.error or "refused to begin")

    def _kill(self, folder: str) -> None:
        for pid, run in self.server.running.items():
            if str(run.folder) == folder:
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Wait a moment for what still runs; leaving the server kills the rest."""
        end = time.monotonic() + END_S
        while self.server.busy and time.monotonic() < end:
            self.server.wait(_LOOK_S)
