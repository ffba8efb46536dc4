"""Stale runs done again, all of them, here or by a cluster; old records stand until then."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from retable.launch.dispatch import Summary
from retable.launch.rerun import put_in_place
from retable.runs import frozen, provenance, records
from retable.runs.frozen import FrozenRun
from retable.runs.records import Record, Status
from retable.util.errors import UserError

AGAIN = "_again"
"""Side folder below that of all runs: below it one per state of the code, so that what older code
has left is never taken for the new result."""


def redo(
    runs: Sequence[FrozenRun], launch: Callable[[list[FrozenRun], Path], Summary]
) -> tuple[Summary, list[str]]:
    """Do runs again at a side, and put each new record in the place of the old one.

    Those that are left to a cluster are put in place by their jobs.

    Args:
        runs: stale ones, for the present code; their paths and launcher agree.
        launch: does runs of a side folder; also given the folder of all runs.

    Returns:
        What the launch did, and of the runs that stay stale what stood in the way.
    """
    home = Path(runs[0].config.paths.runs).absolute()
    code = hashlib.sha256("".join(sorted({run.fingerprint for run in runs})).encode()).hexdigest()
    side = home / AGAIN / code[:16]
    # What a job has done, and was killed before it put it in its place.
    failed = [text for run in runs if (text := _place(run, side))]
    left = [run for run in runs if not _has_result(run, side)]
    summary = launch([_aside(run, side) for run in left], home) if left else Summary()
    if runs[0].config.launcher.name == "local":
        failed += [text for run in left if (text := _place(run, side))]
        for run in runs:
            if _has_result(run, side) and _is_in_place(run, side):
                shutil.rmtree(_aside(run, side).folder, ignore_errors=True)
        _remove_empty(side)
    return summary, failed


def _place(run: FrozenRun, side: Path) -> str | None:
    """Put what was done at a side in its place; returns what stands in the way."""
    if not _has_result(run, side) or _is_in_place(run, side):
        return None
    try:
        (side / provenance.STORE).mkdir(exist_ok=True)  # where a job has done it, there is none
        put_in_place(run, _aside(run, side).folder)
    except (UserError, OSError) as error:
        return f"{run.label}: {error}"
    return None


def _result(folder: Path) -> Record | None:
    return records.read_run(folder, lambda _: None)


def _has_result(run: FrozenRun, side: Path) -> bool:
    new = _result(_aside(run, side).folder)
    return new is not None and new.status is Status.DONE


def _is_in_place(run: FrozenRun, side: Path) -> bool:
    """Whether both records are of one attempt, whatever its number is."""
    new, own = _result(_aside(run, side).folder), _result(run.folder)
    if new is None or own is None:
        return False
    return (new.fingerprint, new.started) == (own.fingerprint, own.started)


def tidy(home: Path, runs: Collection[FrozenRun], queued: Callable[[str], bool]) -> None:
    """Remove what jobs have left at a side of runs whose new record is in its place.

    Args:
        home: folder of all runs.
        runs: that may have been done again.
        queued: whether a task of the queue is about a folder, which would then do it once more.
    """
    sides = [path for path in (home / AGAIN).glob("*") if path.is_dir()]
    for side in sides:
        for run in runs:
            folder = side / run.config.paper / run.key
            if not folder.is_dir() or queued(folder.relative_to(home).as_posix()):
                continue
            if _is_in_place(run, side):
                shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(side)


def _aside(run: FrozenRun, side: Path) -> FrozenRun:
    config = run.config
    paths = config.paths.model_copy(update={"runs": str(side)})
    logger = config.logger.model_copy(update={"name": "none"})  # its curves are the run's own
    config = config.model_copy(update={"paths": paths, "logger": logger})
    return FrozenRun(config, run.key, run.fingerprint)


def _remove_empty(side: Path) -> None:
    """Remove a side folder that has no runs any more, with the texts that its records refer to."""
    if any(side.glob(f"*/*/{frozen.FILE}")):
        return
    shutil.rmtree(side, ignore_errors=True)
    with suppress(OSError):
        side.parent.rmdir()
