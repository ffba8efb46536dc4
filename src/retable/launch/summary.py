"""How the runs of a launch have ended: counted, and said where they did not end well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from retable.launch.postmortem import first_line
from retable.runs.frozen import FrozenRun
from retable.runs.records import Record, Status

if TYPE_CHECKING:
    from retable.launch.progress import Progress


@dataclass
class Summary:
    """Outcome of a launch.

    ``failed`` holds each failed run with the first line of its error, ``blocked`` those that could
    not start from another run, and why. On a cluster, ``queued`` were submitted now and
    ``already`` are being seen to by others. ``unstarted`` would not have recorded what they are
    asked for, and were left out. ``stale`` of those that were done already were done by other code
    than is here now. ``kept`` says of runs done again why their old record stands.
    """

    done: int = 0
    skipped: int = 0
    diverged: int = 0
    failed: list[tuple[FrozenRun, str]] = field(default_factory=list[tuple[FrozenRun, str]])
    blocked: list[tuple[FrozenRun, str]] = field(default_factory=list[tuple[FrozenRun, str]])
    interrupted: int = 0
    elsewhere: int = 0
    stopped: bool = False
    queued: int = 0
    already: int = 0
    unstarted: int = 0
    stale: int = field(default=0, compare=False)
    kept: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, parts: Sequence[Summary]) -> Summary:
        """One summary of several launches."""
        return cls(
            done=sum(p.done for p in parts),
            skipped=sum(p.skipped for p in parts),
            diverged=sum(p.diverged for p in parts),
            failed=[f for p in parts for f in p.failed],
            blocked=[b for p in parts for b in p.blocked],
            interrupted=sum(p.interrupted for p in parts),
            elsewhere=sum(p.elsewhere for p in parts),
            stopped=any(p.stopped for p in parts),
            queued=sum(p.queued for p in parts),
            already=sum(p.already for p in parts),
            unstarted=sum(p.unstarted for p in parts),
            stale=sum(p.stale for p in parts),
            kept=[text for p in parts for text in p.kept],
        )

    @property
    def ok(self) -> bool:
        """Whether nothing has gone wrong so far."""
        ended_badly = self.failed or self.blocked or self.diverged or self.interrupted
        return not (ended_badly or self.stopped or self.unstarted or self.kept)

    @property
    def pending(self) -> bool:
        """Whether runs are left to a cluster, so that there are no results yet."""
        return bool(self.queued or self.already)


def is_settled(record: Record | None, *, retry_diverged: bool = False) -> bool:
    """Whether a run needs no further attempt: done, or diverged unless that is retried."""
    if record is None:
        return False
    return record.status is Status.DONE or (record.status is Status.DIVERGED and not retry_diverged)


class Watch(Protocol):
    """Whoever asks something of the records of a launch, and judges by the first of them."""

    def told(self, run: FrozenRun) -> list[str]:
        """What is to be said, now that a run is done."""
        ...

    def is_in_vain(self, run: FrozenRun) -> bool:
        """Whether a run is asked for nothing but what runs turned out not to record."""
        ...

    def is_for_nothing(self, run: FrozenRun, others: Iterable[FrozenRun]) -> bool:
        """Whether a run is asked for nothing itself, and all that start from it are in vain."""
        ...


@dataclass
class Tally:
    """Counts each run that has ended in a launch's summary and in its display."""

    summary: Summary
    progress: Progress
    label: Callable[[FrozenRun], str]

    def done(self, *, elsewhere: bool) -> None:
        """A run has its record; elsewhere: another runner has done it."""
        self.summary.done += not elsewhere
        self.summary.elsewhere += elsewhere
        self.progress.finished()

    def diverged(self, run: FrozenRun, record: Record) -> None:
        """A run has diverged."""
        self.summary.diverged += 1
        self.progress.say(f"diverged: {self.label(run)}: {first_line(run, record)}")
        self.progress.finished()

    def blocked(self, run: FrozenRun, reason: str) -> None:
        """A run could not start, because of the run that it starts from."""
        self.summary.blocked.append((run, reason))
        self.progress.say(f"blocked: {self.label(run)}: {reason}")
        self.progress.finished()

    def left_out(self) -> None:
        """A run is not started: it is asked for nothing that it would record."""
        self.summary.unstarted += 1
        self.progress.finished()

    def failed(self, run: FrozenRun, message: str, said: str | None = None) -> None:
        """A run has failed; what is said in place of the message has been said before."""
        self.summary.failed.append((run, message))
        self.progress.say(f"failed: {self.label(run)}: {said or message}")
        self.progress.finished()
