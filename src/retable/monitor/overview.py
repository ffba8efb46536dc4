"""Overview of what is submitted and of what is being done here, over all tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from retable.launch.slurm.client import Queued
from retable.launch.slurm.sacct import Accounting
from retable.launch.slurm.submission import Entry, Submission, all_of
from retable.monitor import run_progress as epochs
from retable.monitor import run_states
from retable.monitor.run_progress import Epoch
from retable.monitor.run_states import Known, RunStates, Seen, name_of
from retable.monitor.state import OPEN, State
from retable.runs import frozen, records, scan
from retable.runs.columns import STATUSES
from retable.runs.lease import FILE as LEASE
from retable.runs.lease import is_busy, read_holder
from retable.runs.records import Status
from retable.util import paths
from retable.util.errors import UserError
from retable.util.text import folder_name

RECENT_S = 7 * 86_400.0
RECENT = 10
"""Submissions that are over are shown for so long, and at most so many."""

DESCRIBED = 20
"""Runs without a job whose configs are read, to say what they are."""


@dataclass(frozen=True)
class Submitted:
    """A submission and how its runs are doing.

    Attributes:
        submission: the folder.
        open: whether any of its jobs is in the queue.
        seen: its runs.
        chores: jobs before and after, by name: id, and the job in the queue while it is there.
    """

    submission: Submission
    open: bool
    seen: list[Seen]
    chores: dict[str, tuple[str, Queued | None]]

    @property
    def counts(self) -> Counter[State]:
        """Its runs by state."""
        return Counter(seen.state for seen in self.seen)


@dataclass(frozen=True)
class Local:
    """A run that somebody does without a job of ours.

    Attributes:
        folder: the run's.
        name: for people.
        host: where.
        pid: which process.
        epoch: how far it is; None where its config was not read.
    """

    folder: Path
    name: str
    host: str
    pid: int
    epoch: Epoch | None


@dataclass(frozen=True)
class Overview:
    """Submissions, newest first, and runs without a job; ``notes`` say what could not be asked."""

    runs: Path
    submitted: list[Submitted]
    local: list[Local]
    notes: list[str] = field(default_factory=list[str])

    @property
    def goes_on(self) -> bool:
        """Whether anything is queued or running."""
        counts = (part.counts for part in self.submitted if part.open)
        return bool(self.local) or any(state in OPEN for count in counts for state in count)


def overview_of(runs: Path, accounting: Accounting) -> Overview:
    """All that is submitted, or was lately; see :func:`retable.monitor.run_states.states_of`.

    Args:
        runs: folder of all runs.
        accounting: remembers what is over from look to look.
    """
    notes: list[str] = []
    entries: dict[Path, list[Entry]] = {}
    shown = list(_shown(runs))
    for submission in shown:
        try:
            arrays = [submission.tasks(array.number) for array in submission.header.arrays]
        except UserError as error:
            notes.append(str(error))
            continue
        entries[submission.folder] = [e for array in arrays for task in array.tasks for e in task]
    all_entries = [entry for some in entries.values() for entry in some]
    folders = [name_of(entry) for entry in all_entries]
    view = run_states.states_of(runs, folders, lambda: _known(runs, all_entries), accounting)
    open_ = {submission.folder for submission in view.queue.submissions}
    submitted = [
        Submitted(
            submission,
            submission.folder in open_,
            [view.runs[name_of(entry)] for entry in entries[submission.folder]],
            {
                name: (job, view.queue.chores.get((submission.folder.name, name)))
                for name, job in submission.header.chores.items()
            },
        )
        for submission in shown
        if submission.folder in entries
    ]
    return Overview(runs, submitted, _local(runs, view), [*notes, *view.notes])


def _shown(runs: Path) -> Iterable[Submission]:
    """Open submissions and recent ones, newest first."""
    over = 0
    for submission in all_of(runs):
        if not submission.closed:
            yield submission
            continue
        try:
            age = time.time() - (submission.folder / "closed").stat().st_mtime
        except OSError:
            continue
        over += 1
        if age < RECENT_S and over <= RECENT:
            yield submission


def _known(runs: Path, entries: Iterable[Entry]) -> Known:
    """Statuses by the records alone: whether they are of the present code is not asked."""
    states: dict[str, tuple[Status, bool]] = {}
    papers: dict[str, list[str]] = {}
    for entry in entries:
        paper, _, key = name_of(entry).rpartition("/")
        papers.setdefault(paper, []).append(key)
    for paper, keys in papers.items():
        read = scan.read_all(str(runs / paper), list(dict.fromkeys(keys)), [], lambda _: None)
        for key, status in zip(read.keys, read.statuses.tolist(), strict=True):
            states[f"{paper}/{key}"] = STATUSES[status], True
    for entry in entries:
        if entry.home in states:  # what it replaces is done, and stale until it is done itself
            side = records.read_run(runs / entry.folder, lambda _: None)
            states[entry.home] = states[entry.home][0], bool(side and side.status is Status.DONE)
    return Known(states, lambda folder: records.read_run(runs / folder, lambda _: None))


def _local(runs: Path, view: RunStates) -> list[Local]:
    found: list[Local] = []
    for folder in paths.run_folders(runs):
        if not (folder / LEASE).exists() or (holder := read_holder(folder)) is None:
            continue
        seen = view.runs.get(f"{folder.parent.name}/{folder.name}")
        if seen is not None and not (seen.state is State.RUNNING and seen.host):
            continue
        if seen is None and not is_busy(folder):
            continue
        name, epoch = folder_name(folder), None
        if len(found) < DESCRIBED:
            with suppress(UserError):
                run = frozen.read(folder)
                name, epoch = run.label, epochs.newest(folder, run.config)
        found.append(Local(folder, name, holder.host, holder.pid, epoch))
    return found
