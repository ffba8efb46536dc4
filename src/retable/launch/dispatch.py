"""The only way to launch: give it frozen runs, and it does those that have no good record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from retable.launch.checks import check_together
from retable.launch.summary import Summary, Watch, is_settled
from retable.runs import records, starts
from retable.runs.frozen import FrozenRun
from retable.runs.records import Status
from retable.tracking.wandb_mode import Followed
from retable.util import eta
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.launch.slurm.submit import Orders


def warn(text: str) -> None:
    """A warning, on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def launch(
    runs: Sequence[FrozenRun],
    *,
    retry_diverged: bool = False,
    label: Callable[[FrozenRun], str] = lambda run: run.label,
    orders: Orders | None = None,
    before: Callable[[], None] = lambda: None,
    watch: Watch | None = None,
) -> Summary:
    """Do every run that has no good record; one that fails never stops the others.

    Ctrl-C tells the running ones to leave at the end of their epoch and waits ``grace_s``; a
    second one kills them. Both leave everything resumable. With ``launcher=slurm`` the runs are
    put into the queue of a cluster instead.

    Args:
        runs: frozen runs; the same key twice is done once. What they start from is done before,
            where it is not there.
        retry_diverged: start diverged runs again as well.
        label: what the progress display calls a run.
        orders: what a cluster's launcher is told besides.
        before: done once it is clear that there is something to do, before any of it is.
        watch: judges by the first records here whether the other runs are worth it.

    Raises:
        UserError: before anything is written, where the runs cannot be launched together.
    """
    asked = {run.key for run in runs}
    unique = list(_each_once(_with_chains(runs)).values())
    if not unique:
        return Summary()
    check_together(unique)
    summary = Summary()
    todo: list[FrozenRun] = []
    took: dict[str, list[float]] = {}
    for run in unique:
        record, broken = None, list[str]()
        with suppress(OSError):  # what cannot be read will not be written either, and then fails
            record = records.read_run(run.folder, broken.append)
        for text in broken:
            warn(text)
        if not is_settled(record, retry_diverged=retry_diverged):
            todo.append(run)
            continue
        summary.skipped += 1
        assert record is not None
        summary.stale += record.fingerprint != run.fingerprint
        if record.status is Status.DONE:
            took.setdefault(run.setting_key, []).append(record.wall_s)
        lost = broken or not (run.folder / records.RUN_RECORD).exists()
        if record.status is Status.DONE and lost:
            from retable.launch.worker import republish

            with suppress(OSError, UserError):  # what was found there has been said
                republish(run)

    def name(run: FrozenRun) -> str:
        return label(run) if run.key in asked else run.label

    if todo:
        before()
    if todo and todo[0].config.launcher.name == "slurm":
        from retable.launch.slurm import submit

        Followed(todo).settle(_say, on_nodes=True)
        seconds = eta.expected(took)
        submit.launch(
            todo,
            summary,
            lambda run: seconds(run.setting_key),
            name,
            orders or submit.Orders(),
        )
    elif todo:
        from retable.launch import local  # imports much that a finished table does not need
        from retable.launch.prepare import fetch_weights

        fetch_weights(todo, _say)
        local.launch(todo, summary, name, watch)
    return summary


def _each_once(runs: Iterable[FrozenRun]) -> dict[str, FrozenRun]:
    """Runs by key; where two tables share one and one of them measures time, it runs alone."""
    found: dict[str, FrozenRun] = {}
    for run in runs:
        if run.key not in found or run.config.launcher.alone:
            found[run.key] = run
    return found


def _with_chains(runs: Sequence[FrozenRun]) -> Iterator[FrozenRun]:
    """Runs, and before each those up its chain that it would wait for."""
    for run in runs:
        if run.config.start is not None and _is_open(run):
            yield from reversed(list(_missing(run)))
        yield run


def _missing(run: FrozenRun) -> Iterator[FrozenRun]:
    while (parent := starts.find_parent(run)) is not None and not starts.is_ready(parent):
        yield parent
        run = parent


def _is_open(run: FrozenRun) -> bool:
    with suppress(OSError):
        return not is_settled(records.read_run(run.folder, lambda _: None))
    return True
