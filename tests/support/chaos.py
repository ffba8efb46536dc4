"""What befalls a cluster: a seeded list of events, each done to a real one."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from retable.runs import records
from retable.runs.records import RecordError, Status
from retable.util import paths
from support.slurm import NODES, SAVED, Cluster, until

Victims = TypeVar("Victims", list[str], dict[str, int])
KINDS = ("node", "node", "preempt", "preempt", "time limit", "time limit", "kill", "controller")


class Chaos:
    """Events against a cluster on which runs of ``runs`` are going on.

    Args:
        cluster: up.
        runs: folder of all runs.
        seed: of the choice of events, their times and their victims.
    """

    def __init__(self, cluster: Cluster, runs: Path, seed: int) -> None:
        self.cluster, self.runs = cluster, runs
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.killed: set[str] = set()
        self.down: dict[str, float] = {}
        self.kinds: list[str] = []

    def go_on(self, seconds: float) -> None:
        """Events for so many seconds, each at least once; in the end all nodes are up again."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.kinds:
            self._bring_back()
            if not self.kinds:  # each kind as often as KINDS says, in an order of the seed
                self.kinds = self.random.sample(KINDS, len(KINDS))
            getattr(self, f"_{self.kinds.pop().replace(' ', '_')}")()
            pause = time.monotonic() + self.random.uniform(1.5, 5)
            while time.monotonic() < pause:
                self._bring_back()
                time.sleep(0.2)
        self._bring_back(at_once=True)

    def _bring_back(self, at_once: bool = False) -> None:
        for node, when in list(self.down.items()):
            if at_once or time.monotonic() > when:
                self.cluster.script("node", "start", node)
                del self.down[node]

    def _node(self) -> None:
        """Power cut of a node, for a while shorter or longer than it takes to be missed."""
        up = [node for node in NODES if node not in self.down]
        if len(up) > 1:
            node = self.random.choice(up)
            self.cluster.script("node", "kill", node)
            self.down[node] = time.monotonic() + self.random.choice((2, 8, 25))
            self.counts["nodes killed"] += 1

    def _preempt(self) -> None:
        """Somebody with a higher priority wants a whole node."""
        self.cluster.submit(
            "sleep 3", "--partition=high", "--nodes=1", "--ntasks=2", "--no-requeue"
        )
        self.counts["jobs of high priority"] += 1

    def _time_limit(self) -> None:
        """What SLURM sends to a job before its time limit."""
        if running := self._awaited(self._running):
            with suppress(AssertionError, subprocess.TimeoutExpired):  # it may have ended meanwhile
                victim = self.random.choice(running)
                self.cluster.slurm("scancel", "--signal=USR2", victim, timeout=10)
            self.counts["time limits"] += 1

    def _running(self) -> list[str]:
        """Jobs that run on nodes that are up: one on a dead node cannot be told."""
        text = self.cluster.slurm(
            "squeue", "--noheader", "--states=R", "--partition=low", "--format=%i %N"
        )
        jobs = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        return sorted(job for job, node in jobs.items() if node not in self.down)

    def _kill(self) -> None:
        """What the kernel does to a run that uses too much memory; to each run once at most."""
        if left := self._awaited(self._going_on):
            key = self.random.choice(sorted(left))
            self.killed.add(key)
            with suppress(ProcessLookupError):
                os.kill(left[key], signal.SIGKILL)
                self.counts["runs killed"] += 1

    def _awaited(self, victims: Callable[[], Victims]) -> Victims:
        """Whom it may befall: on a busy machine the jobs may all be loading torch, or requeued."""
        end = time.monotonic() + 90
        while not (found := victims()) and time.monotonic() < end:
            self._bring_back()
            time.sleep(0.2)
        return found

    def _going_on(self) -> dict[str, int]:
        """Processes of the runs that have not been killed yet, by key."""
        pids: dict[str, int] = {}
        for path in self.runs.glob("digits/*/lease.json"):
            with suppress(OSError, ValueError, KeyError):
                pid = json.loads(path.read_text())["pid"]
                if path.parent.name not in self.killed and Path(f"/proc/{pid}").exists():
                    pids[path.parent.name] = pid
        return pids

    def _controller(self) -> None:
        """A restart of the controller, in good order or not."""
        time.sleep(SAVED)  # what it has not saved when it is killed never was
        how = self.random.choice((signal.SIGTERM, signal.SIGKILL))
        os.kill(self.cluster.pid("slurmctld"), how)
        until(
            lambda: "slurmctld" not in " ".join(self.cluster.processes().values()), 30, "it ended"
        )
        self.cluster.script("up")
        self.counts["controllers restarted"] += 1


def settled(runs: Path) -> Counter[str]:
    """Runs by the status of their own record; ``none`` where there is no record yet."""
    found: Counter[str] = Counter()
    for folder in paths.run_folders(runs):
        with suppress(RecordError):
            record = records.read(folder / records.RUN_RECORD)
            found["none" if record is None else record.status.value] += 1
    return found


def done_attempts(folder: Path) -> int:
    """Attempts of a run that came to its end."""
    found = [records.read(path / records.RUN_RECORD) for path in records.attempts(folder)]
    return sum(record is not None and record.status is Status.DONE for record in found)


def epochs_repeated(folder: Path) -> tuple[int, int]:
    """Epochs of a run that were done again: finished ones, and those in flight that were lost."""
    finished = lost = before = 0
    for attempt in reversed(records.attempts(folder)):
        log, history = attempt / "log.txt", attempt / "history.jsonl"
        text = log.read_text() if log.exists() else ""
        said = re.search(r"resuming after (\d+) epochs", text)
        rows = len(history.read_text().splitlines()) if history.exists() else 0
        if rows:  # else it was gone before it had finished one
            finished += max(0, before - (int(said[1]) if said else 0))
        before = max(before, rows)
        record = records.read(attempt / records.RUN_RECORD)
        ended = record is not None and "after epoch" in (record.error or "after epoch")
        lost += not ended
    return finished, lost


def unsettled(runs: Path) -> str:
    """What the jobs say of runs that have no record of their own."""
    lines: list[str] = []
    for folder in paths.run_folders(runs):
        if not (folder / records.RUN_RECORD).exists():
            name = f"{folder.parent.name}/{folder.name}"
            for path in runs.glob("_slurm/*/array-*.json"):
                for task, entries in enumerate(json.loads(path.read_text())["tasks"]):
                    if name in [entry["folder"] for entry in entries]:
                        array = path.stem.partition("-")[2]
                        events = path.parent / "events" / f"{array}-{task}.jsonl"
                        lines += [f"{name}, task {task}:", *events.read_text().splitlines()]
                        log = path.parent / "log" / f"{array}-{task}.txt"
                        lines += log.read_text().splitlines()[-10:]
    return "\n".join(lines)
