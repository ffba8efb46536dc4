"""A recorded run once more: verify what its record says, put a newer record in its place."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retable.launch.dispatch import launch
from retable.launch.worker import new_attempt
from retable.runs import frozen, provenance, records
from retable.runs.equality import Comparison, compare
from retable.runs.frozen import FrozenRun
from retable.runs.lease import Lease
from retable.runs.lookup import Recorded, history_of, refreeze
from retable.runs.records import Record, Status
from retable.util import paths
from retable.util.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator

VERIFY = "_verify"
"""Side folder below that of all runs, where a run is done again."""


@dataclass(frozen=True)
class Verified:
    """What came of running a recorded run again."""

    recorded: Recorded
    comparison: Comparison
    new: Record | None
    replaced: bool
    stopped: bool


def verify(recorded: Recorded, *, replace: bool = False) -> Verified:
    """Run a recorded run again, in a folder of its own, and compare.

    Args:
        recorded: done or diverged.
        replace: put the new record in the place of the recorded one.

    Raises:
        UserError: where there is nothing to compare or nothing that could be replaced.
    """
    old = recorded.record
    if old.status not in {Status.DONE, Status.DIVERGED}:
        raise UserError(f"{recorded.where}: is {old.status.value}; only an ended run has a result")
    if replace and recorded.folder is None:
        raise UserError(f"run {old.key[:12]}: is published only; --replace needs it among the runs")
    home = recorded.folder.parents[1] if recorded.folder else paths.runs_folder().absolute()
    side = home / VERIFY / secrets.token_hex(6)
    run = refreeze(old, side)
    try:
        summary = launch([run], label=lambda _: f"verify {recorded.name}")
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
    if new.status in {Status.FAILED, Status.INTERRUPTED, Status.TIMEOUT}:
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
    """Make the done attempt of a side folder the newest attempt of a run, and its record the run's.

    A kill at any moment leaves the old record or the new one.

    Args:
        run: the run among the others.
        side: the run's folder where it was done again.
    """
    new = records.read(side / records.RUN_RECORD)
    assert new is not None
    with leased(run):
        attempt = new_attempt(run.folder)
        shutil.copytree(side / "attempts" / str(new.attempt), attempt, dirs_exist_ok=True)
        store = Path(run.config.paths.runs) / provenance.STORE
        shutil.copytree(side.parents[1] / provenance.STORE, store, dirs_exist_ok=True)
        numbered = new.model_copy(update={"attempt": int(attempt.name)})
        frozen.write(run)
        records.replace_published(records.write_attempt(attempt, numbered), run.folder)
