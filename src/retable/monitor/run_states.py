"""States of runs, from our files, one query of the queue and one of the accounting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retable.launch.slurm.open_jobs import Queue, queue_of
from retable.launch.slurm.sacct import Accounting, Task
from retable.launch.slurm.submission import Entry, Submission, Tasks, all_of
from retable.monitor.recorded import Ending
from retable.monitor.state import Facts, Holder, State, Submitted, judge
from retable.runs import records
from retable.runs.lease import FILE as LEASE
from retable.runs.lease import Holder as Leaseholder
from retable.runs.lease import is_busy, read_holder
from retable.runs.records import Record, Status
from retable.util.errors import UserError

_GOES_ON = {status for status in Status if status.resumable}
_REFUSALS = ("gave up", "refused")


@dataclass(frozen=True)
class Known:
    """Facts that the records hold of some runs, by their folders ``<paper>/<key>``.

    Attributes:
        endings: how each ended, and whether by the present code; one without a record is absent.
        record: the whole record of one of them.
    """

    endings: Mapping[str, Ending]
    record: Callable[[str], Record | None]


@dataclass(frozen=True)
class Assigned:
    """The task that does a run, or did."""

    submission: Submission
    array: int
    task: int
    entry: Entry

    @property
    def job(self) -> str | None:
        """Id of the array's job; None where SLURM never gave one."""
        arrays = self.submission.header.arrays
        return next((array.job for array in arrays if array.number == self.array), None)

    @property
    def id(self) -> str:
        """The task as scancel calls it; "" without a job."""
        return f"{self.job}_{self.task}" if self.job else ""


@dataclass(frozen=True)
class Seen:
    """A run as it was seen.

    Attributes:
        folder: where it is done; a side folder where a stale run is done again.
        state: one of the closed list.
        why: in words, "" where there is nothing to say.
        record: of a run that has failed or diverged.
        assigned: its newest submission; None of a run that is done.
        facts: what the state was told from.
        host: where it is done by another runner than a job of ours.
    """

    folder: Path
    state: State
    why: str = ""
    record: Record | None = None
    assigned: Assigned | None = None
    facts: Facts = field(default_factory=Facts)
    host: str = ""


@dataclass(frozen=True)
class RunStates:
    """Snapshot of some runs and the queue; ``notes`` say what could not be asked or read."""

    runs: dict[str, Seen]
    queue: Queue
    notes: list[str] = field(default_factory=list[str])


def states_of(
    runs: Path, folders: Iterable[str], known: Callable[[], Known], accounting: Accounting | None
) -> RunStates:
    """States of some runs; at most one call of squeue and one of sacct.

    Args:
        runs: folder of all runs.
        folders: of the runs, ``<paper>/<key>``.
        known: reads their records; called after the queue and the leases have been looked at.
        accounting: remembers what is over from look to look; None: it is not asked.

    Raises:
        UserError: where the controller does not answer, or an open submission's file is broken.
    """
    wanted = list(dict.fromkeys(folders))
    files = _Files(runs)
    queue = queue_of(runs)
    assigned = files.living(queue, set(wanted))
    places = {*wanted, *(a.entry.folder for a in assigned.values())}
    leased = [place for place in places if (runs / place / LEASE).exists()]
    holders = {place: holder for place in leased if (holder := read_holder(runs / place))}
    found = known()
    settled = {f for f in wanted if found.endings.get(f) == (Status.DONE, True)}
    assigned |= files.gone({f for f in wanted if f not in settled and f not in assigned})
    seen: dict[str, Seen] = {}
    unexplained: dict[str, Task] = {}
    for folder in wanted:
        if folder in settled:
            seen[folder] = Seen(runs / folder, State.DONE)
            continue
        one = _see(files, queue, found, holders, folder, assigned.get(folder))
        if (task := _unexplained(one)) is not None:
            unexplained[folder] = task
        seen[folder] = one
    accounts = accounting.ask(set(unexplained.values())) if accounting else {}
    missing = accounting.missing if accounting else None
    jobs = {job for job, _ in accounts}
    for folder, task in unexplained.items() if accounting else ():
        told = {"account": accounts.get(task), "accounted": task[0] in jobs}
        seen[folder] = _told(seen[folder], asked=missing is None, **told)
    return RunStates(seen, queue, [*files.broken, *([missing] if missing else [])])


def assigned_to(runs: Path, folder: str) -> Assigned | None:
    """The newest submission that had a run, whatever became of it; its folder is relative."""
    return _Files(runs).gone({folder}).get(folder)


class _Files:
    """The files of submissions, each read once in a look."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.broken: list[str] = []
        self._tasks: dict[tuple[Path, int], Tasks] = {}
        self._events: dict[tuple[Path, int, int], list[dict[str, Any]]] = {}
        self._cancelled: dict[Path, set[tuple[int, int]]] = {}

    def tasks(self, submission: Submission, array: int) -> Tasks:
        place = submission.folder, array
        if place not in self._tasks:
            self._tasks[place] = submission.tasks(array)
        return self._tasks[place]

    def events(self, at: Assigned) -> list[dict[str, Any]]:
        place = at.submission.folder, at.array, at.task
        if place not in self._events:
            self._events[place] = at.submission.events(at.array, at.task)
        return self._events[place]

    def is_cancelled(self, at: Assigned) -> bool:
        folder = at.submission.folder
        if folder not in self._cancelled:
            self._cancelled[folder] = at.submission.cancelled()
        return (at.array, at.task) in self._cancelled[folder]

    def living(self, queue: Queue, wanted: set[str]) -> dict[str, Assigned]:
        """Runs that a task in the queue does, or will."""
        found: dict[str, Assigned] = {}
        for submission in queue.submissions:
            own = submission.folder.name
            for number in sorted({array for name, array, _ in queue.tasks if name == own}):
                for at in self._entries(submission, number):
                    if (own, number, at.task) in queue.tasks and name_of(at.entry) in wanted:
                        found.setdefault(name_of(at.entry), at)
        return found

    def gone(self, left: set[str]) -> dict[str, Assigned]:
        """Of runs that are not in the queue, the newest submission that had them."""
        found: dict[str, Assigned] = {}
        for submission in all_of(self.runs) if left else ():
            try:
                for array in submission.header.arrays:
                    for at in self._entries(submission, array.number):
                        if name_of(at.entry) in left:
                            found.setdefault(name_of(at.entry), at)
            except UserError as error:
                self.broken.append(str(error))
            left = left - found.keys()
            if not left:
                break
        return found

    def _entries(self, submission: Submission, array: int) -> Iterator[Assigned]:
        for task, entries in enumerate(self.tasks(submission, array).tasks):
            for entry in entries:
                yield Assigned(submission, array, task, entry)


def name_of(entry: Entry) -> str:
    """The folder of the run that an entry is about, though it may be done in another."""
    return entry.home or entry.folder


def _see(
    files: _Files,
    queue: Queue,
    known: Known,
    holders: Mapping[str, Leaseholder],
    folder: str,
    at: Assigned | None,
) -> Seen:
    """A run without a good record, as far as it can be told without the accounting."""
    place = at.entry.folder if at else folder
    if at is not None and at.entry.home and folder in holders:
        place = folder  # whoever does the run itself is further than who does it aside
    status, fresh = known.endings.get(folder, (None, True))
    record = None if status in {None, Status.DONE} else known.record(folder)
    submitted = None if at is None else _submitted(files, queue, known, folder, at)
    holder = Holder.NOBODY
    if place in holders:
        own = {e.get("id") for e in files.events(at)} - {None} if at else set[str]()
        if holders[place].job in own:
            holder = Holder.JOB  # whether that lives, the queue says better than its heartbeat
        elif is_busy(files.runs / place):
            holder = Holder.OTHER
    error = record.error or "" if record else ""
    facts = Facts(status, fresh, error, holder, submitted)
    host = holders[place].host if holder is Holder.OTHER else ""
    return Seen(files.runs / place, *judge(facts), record, at, facts, host)


def _submitted(files: _Files, queue: Queue, known: Known, folder: str, at: Assigned) -> Submitted:
    entry = at.entry
    queued = queue.tasks.get((at.submission.folder.name, at.array, at.task))
    if entry.home is None:
        record = known.record(folder) if folder in known.endings else None
    else:
        record = records.read_run(files.runs / entry.folder, lambda _: None)
    events = files.events(at)
    own = [e for e in events if e.get("run") == entry.folder]
    last = own[-1] if own else {}
    refused = last.get("event") in _REFUSALS
    return Submitted(
        queued=queued,
        has_id=at.job is not None,
        ended=record.status if record is not None and record.attempt > entry.before else None,
        refused=str(last.get("error") or "its job did not begin it") if refused else None,
        blocked=str(last.get("error")) if last.get("event") == "blocked" else None,
        turn=queued is None or _has_its_turn(files.tasks(at.submission, at.array), at, events),
        cancelled=files.is_cancelled(at),
    )


def _has_its_turn(tasks: Tasks, at: Assigned, events: list[dict[str, Any]]) -> bool:
    """Whether a run is among those that its job has come to."""
    over = {
        e.get("run")
        for e in events
        if e.get("event") in {*_REFUSALS, "blocked"}
        or (e.get("event") == "ended" and e.get("status") not in _GOES_ON)
    }
    waiting = [entry for entry in tasks.tasks[at.task] if entry.folder not in over]
    return at.entry in waiting[: tasks.at_once]


def _unexplained(seen: Seen) -> Task | None:
    """The task whose end only the accounting can tell."""
    submitted, at = seen.facts.submitted, seen.assigned
    if at is None or at.job is None or submitted is None or not submitted.unexplained:
        return None
    return (at.job, at.task) if seen.state in {State.LOST, State.STALE} else None


def _told(seen: Seen, **about: Any) -> Seen:
    """A run with what the accounting says of it."""
    assert seen.facts.submitted is not None
    facts = replace(seen.facts, submitted=replace(seen.facts.submitted, **about))
    state, why = judge(facts)
    return replace(seen, state=state, why=why, facts=facts)
