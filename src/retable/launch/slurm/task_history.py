"""State of the runs of a task: by their records, their attempts, and what happened before."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from retable.launch.slurm.submission import Entry
from retable.runs import records
from retable.runs.records import Record, Status
from retable.util.errors import UserError

Standing = Literal["done", "diverged", "failed", "open"]


@dataclass(frozen=True)
class Past:
    """Facts of earlier starts of a job, from the events of its task.

    Attributes:
        failed: runs that will not be started again: they failed by a fault of their own, or were
            given up. A job that is preempted does not give them another chance.
        killed: how often the process of a run was killed.
        requeues: attempts that its runs had had, together, at each requeue of the job's own.
    """

    failed: frozenset[str]
    killed: Counter[str]
    requeues: list[int]

    @classmethod
    def of(cls, events: Iterable[dict[str, Any]]) -> Past:
        """The past that a task's events tell."""
        failed: set[str] = set()
        killed: Counter[str] = Counter()
        requeues: list[int] = []
        for about in events:
            run = str(about.get("run", ""))
            match about.get("event"):
                case "gave up":
                    failed.add(run)
                case "ended" if about.get("status") == Status.FAILED:
                    failed.add(run)
                case "killed":
                    killed[run] += 1
                case "requeued":
                    requeues.append(about.get("attempts", -1))
                case _:
                    pass
        return cls(frozenset(failed), killed, requeues)

    def idle(self, attempts: int) -> int:
        """The last requeues since which no run was attempted, of so many attempts by now."""
        return sum(1 for _ in takewhile(lambda n: n == attempts, reversed(self.requeues)))


def read(folder: Path) -> tuple[Record | None, bool]:
    """The record that speaks for a run, and whether it is the run's own, published and whole."""
    record, broken = None, list[str]()
    with suppress(OSError):  # what cannot be read will not be written either, and then fails
        record = records.read_run(folder, broken.append)
    for text in broken:
        print(f"warning: {text}", file=sys.stderr)
    return record, not broken and (folder / records.RUN_RECORD).exists()


def standing(runs: Path, entry: Entry, past: Past) -> Standing:
    """State of a run; a done attempt that was not published yet is published.

    Args:
        runs: folder of all runs.
        entry: the run.
        past: of its task.
    """
    folder = runs / entry.folder
    record, published = read(folder)
    if record is not None and record.status is Status.DONE:
        if not published:
            from retable.launch.worker import republish
            from retable.runs import frozen

            with suppress(OSError, UserError):
                republish(frozen.read(folder))
            published = (folder / records.RUN_RECORD).exists()
        return "done" if published else "open"
    if record is not None and record.status is Status.DIVERGED and record.attempt > entry.before:
        return "diverged"  # one from before is to be tried once more, or it would not be here
    return "failed" if entry.folder in past.failed else "open"


def barren(runs: Path, entry: Entry) -> int:
    """The last attempts of a run, since its submission, that have brought no new epoch."""
    attempts = records.attempts(runs / entry.folder)
    count = 0
    for attempt in attempts[: max(0, len(attempts) - entry.before)]:
        if any(attempt.glob("checkpoints/epoch=*.ckpt")):
            break
        count += 1
    return count


def put_in_place(runs: Path, entry: Entry) -> None:
    """Put the record of a run done at a side into the place of the stale one; once.

    Raises:
        UserError: where another runner holds the run.
        OSError: where it cannot be written.
    """
    if entry.home is None:
        return
    from retable.launch import redo
    from retable.runs import frozen

    side = runs / entry.folder
    redo.put_in_place_once(frozen.read(side).below(runs), side)
