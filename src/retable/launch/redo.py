"""Do recorded runs aside: to verify a record, or to redo it and put the new one in its place."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from retable.launch.dispatch import launch
from retable.launch.summary import Summary
from retable.launch.worker import new_attempt
from retable.runs import frozen, provenance, records
from retable.runs.equality import Comparison, compare
from retable.runs.frozen import FrozenRun
from retable.runs.lease import Lease
from retable.runs.lookup import REDO, Recorded, history_of, refreeze
from retable.runs.record_set import Found
from retable.runs.records import Record, Status
from retable.util import paths
from retable.util.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence

    from retable.launch.slurm.submit import Orders

VERIFY = "_verify"
"""Side folder below that of all runs, where a run is verified."""


@dataclass(frozen=True)
class Verified:
    """Outcome of a verification."""

    recorded: Recorded
    comparison: Comparison
    new: Record | None
    replaced: bool
    stopped: bool


def verify(recorded: Recorded, *, replace: bool = False) -> Verified:
    """Verify a recorded run: run it in a folder of its own, and compare.

    Args:
        recorded: done or diverged.
        replace: redo it: put the new record in the place of the recorded one.

    Raises:
        UserError: where there is nothing to compare or nothing that could be replaced.
    """
    old = recorded.record
    if not old.status.has_result:
        raise UserError(f"{recorded.where}: is {old.status.value}; only an ended run has a result")
    if replace and recorded.folder is None:
        raise UserError(f"run {old.key[:12]}: is published only; --replace needs it among the runs")
    home = recorded.folder.parents[1] if recorded.folder else paths.runs_folder().absolute()
    side = home / VERIFY / secrets.token_hex(6)
    run = refreeze(old, side)
    try:
        summary = launch([run], label=lambda _: f"verify {recorded.label}")
        new = records.read_run(run.folder, lambda _: None)
        if summary.stopped:
            return Verified(recorded, _not_ended("stopped"), new, replaced=False, stopped=True)
        comparison = _compare(recorded, run, new)
        replaced = False
        if replace and new is not None and new.status is Status.DONE:
            put_in_place(refreeze(old, home), run.folder)
            replaced = True
        return Verified(recorded, comparison, new, replaced=replaced, stopped=False)
    finally:
        shutil.rmtree(side, ignore_errors=True)
        with suppress(OSError):  # another verification goes on in it
            side.parent.rmdir()


def _not_ended(reason: str) -> Comparison:
    return Comparison("different", f"the run again has no result: {reason}")


def _compare(recorded: Recorded, run: FrozenRun, new: Record | None) -> Comparison:
    if new is None:
        return _not_ended("it left no record")
    if not new.status.has_result:
        lines = (new.error or "").splitlines()
        return _not_ended(f"{new.status.value}{': ' + lines[0] if lines else ''}")
    return compare(recorded.record, new, (recorded.history, history_of(run.folder, new)))


@contextmanager
def leased(run: FrozenRun) -> Generator[None]:
    """Hold a run's lease.

    Raises:
        UserError: where another runner does.
    """
    lease = Lease.acquire(run.folder, run.config.launcher.lease_s)
    if lease is None:
        raise UserError(f"{run.folder}: another runner holds it; try again when it has ended")
    try:
        yield
    finally:
        lease.release()


def put_in_place(run: FrozenRun, side: Path) -> None:
    """Make the ended attempt of a side folder a run's newest attempt, and its record the run's.

    A kill at any moment leaves the old record or the new one.

    Args:
        run: the run among the others.
        side: the run's folder where it was redone.

    Raises:
        UserError: where another runner holds the run.
        OSError: where it cannot be written.
    """
    new = _result(side)
    assert new is not None
    with leased(run):
        attempt = new_attempt(run.folder)
        shutil.copytree(side / "attempts" / str(new.attempt), attempt, dirs_exist_ok=True)
        store = side.parents[1] / provenance.STORE
        if store.is_dir():  # none where a submission has put it among the other runs' at once
            home = Path(run.config.paths.runs) / provenance.STORE
            shutil.copytree(store, home, dirs_exist_ok=True)
        numbered = structs.replace(new, attempt=int(attempt.name))
        frozen.write(run)
        records.replace_published(records.write_attempt(attempt, numbered), run.folder)


def put_in_place_once(run: FrozenRun, side: Path) -> None:
    """As :func:`put_in_place`, but leave what is in its place already."""
    if not _same_attempt(_result(side), _result(run.folder)):
        put_in_place(run, side)


def _same_attempt(one: Record | None, other: Record | None) -> bool:
    """Whether two records are of one attempt, whatever its number is."""
    if one is None or other is None:
        return False
    return (one.fingerprint, one.started) == (other.fingerprint, other.started)


def launch_anew(runs: Sequence[FrozenRun], orders: Orders | None = None) -> Summary:
    """Launch runs, and redo those that are stale, with what they start from.

    Args:
        runs: as for :func:`launch`.
        orders: what a cluster's launcher is told besides.
    """
    stale = stale_among(runs)
    keys = {run.key for run in stale}
    rest = [run for run in runs if run.key not in keys]

    def at_a_side(some: list[FrozenRun], home: Path) -> Summary:
        return launch(some, orders=replace(orders, runs=home) if orders else None)

    # What others start from is redone before them, or these would begin with its old weights.
    parts: list[Summary] = []
    if stale:
        parts.append(redo(stale, at_a_side))
        _drop_failed(stale)
    if any(part.pending for part in parts):
        behind = [run for run in rest if any(above.key in keys for above in run.chain)]
        parts.append(Summary(blocked=[(run, _NOT_YET) for run in behind]))
        rest = [run for run in rest if run not in behind]
    if rest and not any(part.stopped for part in parts):
        parts.append(launch(rest, orders=orders))
    return Summary.of(parts)


_NOT_YET = "starts from a run that is redone; the same command does it when that is done"


def stale_among(runs: Sequence[FrozenRun]) -> list[FrozenRun]:
    """Runs, and those up their chains, whose result the present code might not give; in order."""
    each = {one.key: one for run in runs for one in (*run.chain, run)}
    read: dict[str, Record] = {}
    for run in each.values():
        with suppress(OSError):  # what cannot be read is launched, which says so
            record = _result(run.folder)
            if record is not None and record.status.has_result:
                read[run.key] = record
    found = Found.of(read)
    return [run for run in each.values() if found.stale(run, [run.config.seed])[0]]


def _drop_failed(runs: Sequence[FrozenRun]) -> None:
    """Remove what failed of runs with code that has been edited since: their results are there."""
    for run in runs:
        record = _result(run.folder)
        if record is None or record.fingerprint != run.fingerprint:
            continue
        home = Path(run.config.paths.runs).absolute()
        for side in [path for path in (home / REDO).glob("*") if path.is_dir()]:
            with suppress(UserError, FileNotFoundError), leased(run.below(side)):
                shutil.rmtree(run.below(side).folder, ignore_errors=True)
            _remove_empty(side)


def redo(runs: Sequence[FrozenRun], start: Callable[[list[FrozenRun], Path], Summary]) -> Summary:
    """Redo runs: do them at a side, and put each new record in the place of the old one.

    A run that diverges now has that for its result. Those that are left to a cluster are put in
    place by their jobs.

    Args:
        runs: stale ones, for the present code; their paths and launcher agree.
        start: does runs of a side folder; also given the folder of all runs.

    Returns:
        What the launch did.
    """
    home = Path(runs[0].config.paths.runs).absolute()
    code = hashlib.sha256("".join(sorted({run.fingerprint for run in runs})).encode()).hexdigest()
    side = home / REDO / code[:16]
    # What a job has done, and was killed before it put it in its place.
    kept = [text for run in runs if (text := _place(run, side))]
    left = [run for run in runs if not _has_result(run, side)]
    summary = start([run.below(side, logged=False) for run in left], home) if left else Summary()
    if runs[0].config.launcher.name == "local":
        kept += [text for run in left if (text := _place(run, side))]
        for run in runs:
            if _has_result(run, side) and _is_in_place(run, side):
                shutil.rmtree(run.below(side, logged=False).folder, ignore_errors=True)
        _remove_empty(side)
    return replace(summary, kept=kept)


def _place(run: FrozenRun, side: Path) -> str | None:
    """Put what was done at a side in its place; returns what stands in the way."""
    if not _has_result(run, side):
        return None
    try:
        put_in_place_once(run, run.below(side).folder)
    except (UserError, OSError) as error:
        return f"{run.label}: {error}"
    return None


def _result(folder: Path) -> Record | None:
    return records.read_run(folder, lambda _: None)


def _has_result(run: FrozenRun, side: Path) -> bool:
    new = _result(run.below(side).folder)
    return new is not None and new.status.has_result


def _is_in_place(run: FrozenRun, side: Path) -> bool:
    return _same_attempt(_result(run.below(side).folder), _result(run.folder))


def tidy(home: Path, runs: Collection[FrozenRun], queued: Callable[[str], bool]) -> None:
    """Remove what jobs have left at a side of runs whose new record is in its place.

    Args:
        home: folder of all runs.
        runs: that may have been redone.
        queued: whether a task of the queue is about a folder, which would then do it once more.
    """
    sides = [path for path in (home / REDO).glob("*") if path.is_dir()]
    for side in sides:
        for run in runs:
            folder = side / run.config.paper / run.key
            if not folder.is_dir() or queued(folder.relative_to(home).as_posix()):
                continue
            if _is_in_place(run, side):
                shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(side)


def _remove_empty(side: Path) -> None:
    """Remove a side folder that has no runs any more, with the texts that its records refer to."""
    if any(side.glob(f"*/*/{frozen.FILE}")):
        return
    shutil.rmtree(side, ignore_errors=True)
    with suppress(OSError):
        side.parent.rmdir()
