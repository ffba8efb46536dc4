"""State of the queue of the cluster: our submissions joined with squeue, in one call."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from retable.launch.slurm import client
from retable.launch.slurm.client import Queued
from retable.launch.slurm.submission import FOLDER, Header, Submission, all_of
from retable.runs.lease import is_held
from retable.util.errors import UserError

LEASE_S = 60.0
"""Seconds without heartbeat after which whoever was submitting counts as dead."""
_COMMENT = re.compile(r"retable (\S+) (\S+)")


def comment(submission: str, what: int | str) -> str:
    """Comment that a job is known by, even where its id was never written down.

    Args:
        submission: its id.
        what: number of the array, or name of the chore.
    """
    return f"retable {submission} {what}"


@dataclass(frozen=True)
class QueuedTask:
    """Where a run is in the queue."""

    submission: Submission
    array: int
    task: int
    queued: Queued


@dataclass
class Queue:
    """Open submissions, and their tasks that have not ended.

    Attributes:
        submissions: the open ones, newest first.
        tasks: by submission id, array and task.
        chores: jobs before and after the arrays, by submission id and name.
    """

    submissions: list[Submission]
    tasks: dict[tuple[str, int, int], Queued] = field(
        default_factory=dict[tuple[str, int, int], Queued]
    )
    chores: dict[tuple[str, str], Queued] = field(default_factory=dict[tuple[str, str], Queued])

    def where(self, folder: str) -> QueuedTask | None:
        """Where a run is, by its folder ``<paper>/<key>``; None where no task is going to do it."""
        return self._places.get(folder)

    @cached_property
    def _places(self) -> dict[str, QueuedTask]:
        found: dict[str, QueuedTask] = {}
        for submission in self.submissions:
            numbers = {array for id, array, _ in self.tasks if id == submission.folder.name}
            for array in sorted(numbers):
                for task, entries in enumerate(submission.tasks(array).tasks):
                    queued = self.tasks.get((submission.folder.name, array, task))
                    for entry in entries if queued else ():
                        assert queued is not None
                        found.setdefault(entry.folder, QueuedTask(submission, array, task, queued))
        return found


def queue_of(runs: Path, *, alone: bool = False) -> Queue:
    """Find the open submissions below a folder of runs; asks squeue once, or not at all.

    Submissions that have no job in the queue any more are marked as closed. One whose submitter
    died between sbatch and writing the job's id down gets the id back, by the job's comment.

    Args:
        runs: the folder.
        alone: whether the caller itself holds the lease of who submits.

    Raises:
        UserError: where the controller does not answer, or a submission's file is broken.
    """
    # Before squeue: what is being submitted now may be missing in its answer.
    submitting = not alone and _is_submitting(runs)
    entries = [entry for entry in all_of(runs) if not entry.closed and _is_there(entry)]
    if not entries:
        return Queue([])
    jobs = _ask([entry.header for entry in entries])
    queue = Queue([])
    for entry in entries:
        header = _with_ids(entry, jobs)
        if header != entry.header and not submitting:  # who submits writes them as they come
            with suppress(OSError):
                entry.write(header)
        living = _living(entry, header, jobs)
        if not (living or submitting or _is_new(entry, header)):
            with suppress(OSError):  # somebody else's folder: it is found closed by looking
                entry.close()
            continue
        queue.submissions.append(entry)
        for number, name, queued in living:
            if name is not None:
                queue.chores[entry.folder.name, name] = queued
            elif queued.task is not None:
                queue.tasks[entry.folder.name, number, queued.task] = queued
    return queue


def _is_there(entry: Submission) -> bool:
    """Whether a submission has not just been taken back by who was making it."""
    try:
        return bool(entry.header)
    except UserError:
        if (entry.folder / "submission.json").exists():
            raise
        return False


def _ask(headers: list[Header]) -> list[Queued]:
    ids = [array.job for header in headers for array in header.arrays if array.job]
    ids += [job for header in headers for job in header.chores.values()]
    if all(array.job for header in headers for array in header.arrays):
        return client.squeue(list(dict.fromkeys(ids)))
    # Only the comment tells those apart whose ids are unknown, so all of their users' are listed.
    return client.squeue([], users=[header.user for header in headers])


def _with_ids(entry: Submission, jobs: list[Queued]) -> Header:
    """The header with the ids that were lost, as far as their jobs are there."""
    header = entry.header
    if all(array.job for array in header.arrays):
        return header
    found: dict[int, str] = {}
    for queued in jobs:
        match = _COMMENT.fullmatch(queued.comment)
        if match and match[1] == entry.folder.name and match[2].isdecimal():
            found.setdefault(int(match[2]), queued.job)
    arrays = [
        array if array.job else array.model_copy(update={"job": found.get(array.number)})
        for array in header.arrays
    ]
    return header.model_copy(update={"arrays": arrays})


def _living(
    entry: Submission, header: Header, jobs: list[Queued]
) -> list[tuple[int, str | None, Queued]]:
    """Its jobs that have not ended: number of the array, or else name of the chore."""
    arrays = {array.job: array.number for array in header.arrays if array.job}
    chores = {job: name for name, job in header.chores.items()}
    return [
        (arrays.get(queued.job, -1), chores.get(queued.job), queued)
        for queued in jobs
        if queued.living
        and (queued.job in arrays or queued.job in chores)
        and _is_ours(queued, entry.folder.name)
    ]


def _is_ours(queued: Queued, submission: str) -> bool:
    """Whether a job is not somebody else's that has got the same id.

    A controller that has lost its state counts from 1 again. A site may write comments of its own.
    """
    match = _COMMENT.fullmatch(queued.comment)
    return match[1] == submission if match else queued.comment not in ("", "(null)")


def _is_submitting(runs: Path) -> bool:
    base = runs / FOLDER
    try:
        return base.is_dir() and is_held(base, LEASE_S)
    except OSError:
        return False  # a folder that we may only read


def _is_new(entry: Submission, header: Header) -> bool:
    """Whether an sbatch may yet be on its way, though whoever called it is gone."""
    if all(array.job for array in header.arrays):
        return False
    with suppress(OSError):  # each sbatch is followed by a change of the file
        changed = (entry.folder / "submission.json").stat().st_mtime
        return abs(time.time() - changed) < client.TIMEOUT_S
    return False
