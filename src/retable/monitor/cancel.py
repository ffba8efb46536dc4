"""Cancelling what a table has in the queue of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from retable.launch.slurm import client
from retable.launch.slurm.client import Queued
from retable.launch.slurm.open_jobs import Queue
from retable.launch.slurm.submission import Submission
from retable.monitor.run_states import Seen, name_of
from retable.monitor.state import OPEN, State
from retable.runs import records
from retable.util.text import counted, folder_name, short_key

_Place = tuple[str, int, int]


@dataclass
class Cancellation:
    """Plan of a cancellation: tasks, their runs, and jobs that go with them.

    Attributes:
        queue: as it was looked at.
        tasks: by submission id, array and task.
        runs: folders of the runs that the user has named, in those tasks.
        others: folders of other runs that those tasks would have done.
        local: those of the named runs that are being done without a job of ours.
        chores: jobs before and after the arrays that would be left with nothing to wait for.
    """

    queue: Queue
    tasks: dict[_Place, Queued] = field(default_factory=dict[_Place, Queued])
    runs: list[str] = field(default_factory=list[str])
    others: list[str] = field(default_factory=list[str])
    local: dict[str, Seen] = field(default_factory=dict[str, Seen])
    chores: dict[tuple[str, str], Queued] = field(default_factory=dict[tuple[str, str], Queued])

    def text(self) -> str:
        """The plan in words: what is cancelled, and what goes with it."""
        lines: list[str] = []
        if self.tasks:
            jobs = ", ".join(dict.fromkeys(queued.job for queued in self.tasks.values()))
            lines.append(
                f"{_count(self.runs, 'run')} in {_count(self.tasks, 'task')} of job {jobs}"
            )
        if self.others:
            some = ", ".join(folder_name(name) for name in self.others[:5])
            more = f" and {len(self.others) - 5} more" if len(self.others) > 5 else ""
            lines.append(
                f"the same tasks would do {_count(self.others, 'other run')}: {some}{more}"
            )
        if self.chores:
            named = ", ".join(f"{name} (job {q.job})" for (_, name), q in self.chores.items())
            lines.append(f"nothing is left for {named}, which goes too")
        for name, seen in self.local.items():
            where = f" on {seen.host}" if seen.host else ""
            key = short_key(name.rpartition("/")[2])
            lines.append(f"left alone: {key} is being done{where}, in no job")
        return "\n".join(lines)


def _count(what: Iterable[object], word: str) -> str:
    return counted(len(list(what)), word)


def cancellation_of(runs: Path, named: Mapping[str, Seen], queue: Queue) -> Cancellation:
    """Find what would have to be cancelled for some runs not to be done.

    Args:
        runs: folder of all runs.
        named: the runs as they were seen, by folder ``<paper>/<key>``.
        queue: as it was looked at for them.
    """
    found = Cancellation(queue)
    submissions: dict[str, Submission] = {}
    for name, seen in named.items():
        at, submitted = seen.assigned, seen.facts.submitted
        if seen.state is State.RUNNING and seen.host:
            found.local[name] = seen
        if seen.state not in OPEN or at is None or submitted is None or submitted.queued is None:
            continue
        found.tasks[at.submission.folder.name, at.array, at.task] = submitted.queued
        submissions[at.submission.folder.name] = at.submission
        found.runs.append(name)
    own = set(found.runs)
    for id_, array, task in found.tasks:
        for entry in submissions[id_].tasks(array).tasks[task]:
            name = name_of(entry)
            if name not in own and name not in found.others and _is_open(runs / entry.folder):
                found.others.append(name)
    for (id_, name), queued in queue.chores.items():
        left = [place for place in queue.tasks if place[0] == id_ and place not in found.tasks]
        if id_ in submissions and not left:
            found.chores[id_, name] = queued
    return found


def _is_open(folder: Path) -> bool:
    record = records.read_run(folder, lambda _: None)
    return record is None or record.status.resumable


def carry_out(found: Cancellation) -> None:
    """Cancel; then note in the submissions what was cancelled, for when the jobs are forgotten.

    Raises:
        UserError: where SLURM refuses.
        OSError: where it cannot be noted.
    """
    client.scancel([*_ids(found), *(queued.job for queued in found.chores.values())])
    for submission in found.queue.submissions:
        id_ = submission.folder.name
        own = sorted((array, task) for name, array, task in found.tasks if name == id_)
        if own:
            submission.cancel(own)


def _ids(found: Cancellation) -> list[str]:
    """Few words for many tasks: an array of which nothing is left by its job's id alone."""
    ids: list[str] = []
    jobs: dict[str, list[int]] = {}
    for queued in found.tasks.values():
        if queued.task is not None:
            jobs.setdefault(queued.job, []).append(queued.task)
    for job, tasks in jobs.items():
        living = sum(queued.job == job for queued in found.queue.tasks.values())
        ids.append(job if living == len(tasks) else f"{job}_{ranges(tasks)}")
    return ids


def ranges(numbers: Iterable[int]) -> str:
    """``4`` or ``[0,4-6]``, as SLURM writes the tasks of an array."""
    unique = sorted(set(numbers))
    parts: list[str] = []
    for _, group in groupby(enumerate(unique), lambda pair: pair[1] - pair[0]):
        some = [number for _, number in group]
        parts.append(str(some[0]) if len(some) == 1 else f"{some[0]}-{some[-1]}")
    return parts[0] if len(unique) == 1 else f"[{','.join(parts)}]"
