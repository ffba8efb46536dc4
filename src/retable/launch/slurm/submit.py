"""From runs to jobs in the queue: all of them, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from retable.launch.error_messages import line_of
from retable.launch.slurm import client, job_arrays, sbatch
from retable.launch.slurm.job_arrays import ArrayPlan, Seconds
from retable.launch.slurm.open_jobs import LEASE_S, Queue, queue_of
from retable.launch.slurm.submission import FOLDER, Submission
from retable.launch.slurm.task_history import Past
from retable.launch.slurm.transaction import Filing, name_of, uninterrupted
from retable.launch.slurm.wait import wait
from retable.launch.summary import Summary, is_settled
from retable.runs import provenance, records, snapshot
from retable.runs.frozen import FrozenRun
from retable.runs.lease import FILE as LEASE
from retable.runs.lease import Lease, is_held, read_holder
from retable.util import paths
from retable.util.errors import UserError


def _on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Orders:
    """Options of a launch on a cluster besides its runs.

    Attributes:
        label: what is submitted, such as a table's name.
        table: arguments by which the commands about tables know it; empty: it is no table.
        wait: follow until the runs have ended.
        prepare: arguments of ``retable prepare``, to be done before; None: not.
        publish: whether the table is printed and published behind.
        retry_diverged: retry diverged runs as well.
        runs: folder of all runs, where these are done in a side folder of it; their records are to
            replace those of the same runs.
        say: prints a line for people.
    """

    label: str = "runs"
    table: tuple[str, ...] = ()
    wait: bool = False
    prepare: tuple[str, ...] | None = None
    publish: bool = False
    retry_diverged: bool = False
    runs: Path | None = None
    say: Callable[[str], None] = _on_stderr


@dataclass
class _Sorted:
    """Runs by what is to be done about them."""

    fresh: list[FrozenRun] = field(default_factory=list[FrozenRun])
    queued: list[FrozenRun] = field(default_factory=list[FrozenRun])
    held: list[FrozenRun] = field(default_factory=list[FrozenRun])
    jobs: set[str] = field(default_factory=set[str])


def launch(
    runs: Sequence[FrozenRun],
    summary: Summary,
    seconds: Seconds,
    label: Callable[[FrozenRun], str],
    orders: Orders,
) -> None:
    """Put runs without a good record into the queue, unless somebody has, or does them.

    Args:
        runs: of one launch.
        summary: told what has become of them.
        seconds: what a run is expected to take.
        label: what a run is called.
        orders: see there.

    Raises:
        UserError: with nothing left behind, where the cluster or the disk refuses.
    """
    cluster, folder = job_arrays.profile(runs[0]), orders.runs or Path(runs[0].config.paths.runs)
    sbatch.check(cluster, folder)
    size = cluster.max_array or client.max_array_size()
    job_arrays.check(job_arrays.arrange(runs, seconds, size), client.partitions())
    base = folder / FOLDER
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _alone(base, orders.say):
            found = _sort(runs, queue_of(folder, alone=True), summary, orders, folder)
            _say_rest(found, orders)
            if found.fresh:
                arrays = job_arrays.arrange(found.fresh, seconds, size, found.queued)
                _submit(found, arrays, orders, folder)
    except OSError as error:
        raise UserError(f"paths.runs: {line_of(error, folder.absolute())}") from None
    summary.queued += len(found.fresh)
    summary.already += len(found.queued) + len(found.held)
    if orders.wait:
        wait(found.fresh, [*found.queued, *found.held], folder, summary, label)


@contextmanager
def _alone(base: Path, say: Callable[[str], None]) -> Generator[None]:
    """One submission at a time into a folder of runs."""
    told = False
    while (lease := Lease.acquire(base, LEASE_S)) is None:
        holder = read_holder(base)
        if not told and holder is not None:
            say(f"waiting: process {holder.pid} on {holder.host} is submitting into this folder")
            told = True
        time.sleep(0.2)
    try:
        yield
    finally:
        lease.release()


def _sort(
    runs: Sequence[FrozenRun], queue: Queue, summary: Summary, orders: Orders, folder: Path
) -> _Sorted:
    found = _Sorted()
    pasts: dict[tuple[str, int, int], Past] = {}
    for run in runs:
        name = name_of(run, folder)
        place = queue.where(name)
        if place is not None:
            task = place.submission.folder.name, place.array, place.task
            if task not in pasts:
                pasts[task] = Past.of(place.submission.events(place.array, place.task))
            # What has failed its job will not start again, though it may have others to do.
            if name not in pasts[task].failed:
                found.queued.append(run)
                found.jobs.add(place.queued.job)
                continue
        # The record again: the run may have ended after it was read and before squeue was asked.
        if (run.folder / records.RUN_RECORD).exists() and is_settled(
            records.read_run(run.folder, lambda _: None), retry_diverged=orders.retry_diverged
        ):
            summary.skipped += 1
        elif (run.folder / LEASE).exists() and is_held(run.folder, run.config.launcher.lease_s):
            found.held.append(run)
        else:
            found.fresh.append(run)
    return found


def _say_rest(found: _Sorted, orders: Orders) -> None:
    for runs, what in (
        (found.queued, "queued or running on the cluster already; not submitted again"),
        (found.held, "being done by another runner; not submitted"),
    ):
        if runs:
            orders.say(f"{len(runs)} run{'s' * (len(runs) > 1)} {what}")
    if not found.fresh and (orders.prepare is not None or orders.publish):
        orders.say("nothing is submitted, so neither is --prepare or --publish")


def _submit(found: _Sorted, arrays: list[ArrayPlan], orders: Orders, folder: Path) -> None:
    run = found.fresh[0]
    orders.say(job_arrays.as_text(arrays, job_arrays.profile(run)))
    targets = {target for run in found.fresh for target in run.targets}
    code = provenance.code(targets)
    copy = snapshot.make(folder, targets).absolute() if run.config.launcher.snapshot else None
    about = provenance.collect(folder, targets)
    provenance.refuse_changed(code, targets)
    chores = {"prepare": orders.prepare, "publish": orders.table if orders.publish else None}
    with uninterrupted() as interrupted:
        filing = Filing(arrays, folder, interrupted)
        try:
            filing.write(
                orders.label, about, copy, {k: v for k, v in chores.items() if v is not None}
            )
            filing.queue_up(found.jobs)
        except BaseException:
            filing.undo(orders.say)
            raise
    orders.say(_how_to_follow(filing.submission, orders))


def _how_to_follow(submission: Submission, orders: Orders) -> str:
    jobs = [array.job or "" for array in submission.header.arrays]
    lines = [f"submitted as {submission.folder.name}: job{'s' * (len(jobs) > 1)} {' '.join(jobs)}"]
    if orders.wait:
        return lines[0]
    here = submission.runs.absolute()
    env = "" if here == paths.runs_folder().absolute() else f"RETABLE_RUNS={here} "
    if orders.table:
        table = " ".join(orders.table)
        lines += [
            f"    follow:  {env}retable status {table} --watch",
            f"    logs:    {env}retable logs RUN, or {submission.folder.absolute()}/log",
            f"    cancel:  {env}retable cancel {table}",
            f"    table:   {env}retable table {table}",
        ]
    else:
        lines += [
            f"    follow:  {env}retable status --watch",
            f"    logs:    {env}retable logs RUN, or {submission.folder.absolute()}/log",
            f"    cancel:  scancel {' '.join(jobs)}",
        ]
    return "\n".join(lines)
