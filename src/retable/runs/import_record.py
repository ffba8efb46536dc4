"""Records that were made elsewhere, as runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from retable.runs import artifacts, frozen, records
from retable.runs.attempts import new_attempt
from retable.runs.frozen import FrozenRun
from retable.runs.history import FILE as HISTORY
from retable.runs.history_points import THINNED
from retable.runs.lease import Lease
from retable.runs.lookup import refreeze
from retable.runs.records import Record, RecordError, Status
from retable.runs.start_files import FILE as START

GOOD = {status for status in Status if status.has_result}


def is_here(folder: Path) -> bool:
    """Whether a run has a record that says a result; one that cannot be read is not touched."""
    try:
        if records.read(folder / records.RUN_RECORD) is not None:
            return True
    except RecordError:
        return True
    record = records.read_run(folder, lambda _: None)
    return record is not None and record.status in GOOD


def frozen_for(record: Record, runs: Path) -> FrozenRun:
    """The run of a record, for the code that computed it: what its folder's config was frozen for.

    Raises:
        UserError: where its key does not follow from its config.
    """
    return replace(refreeze(record, runs), fingerprint=record.fingerprint)


def adopt(
    run: FrozenRun,
    record: Record,
    history: str | None,
    start: bytes | None = None,
    thinned: str | None = None,
    left: Mapping[str, bytes] | None = None,
) -> bool:
    """Write a run as an attempt of its own; False where it has a record by now, or is being done.

    The record comes last: a kill leaves an attempt that came to nothing.

    Args:
        run: of :func:`frozen_for`.
        record: its record.
        history: text of its history, where it is whole.
        start: what it has left for others to start from, as a file.
        thinned: what is left of its history, where that is not whole.
        left: files of artefacts that it has left, by name.

    Raises:
        RecordError: where the record is too large.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    lease = Lease.acquire(run.folder, run.config.launcher.lease_s)
    if lease is None:
        return False
    try:
        if is_here(run.folder):
            return False
        if not (run.folder / frozen.FILE).exists():  # one that is queued here stays as it is
            frozen.write(run)
        attempt = new_attempt(run.folder)
        if history is not None:
            records.write_atomic(attempt / HISTORY, history)
        if thinned is not None:
            records.write_atomic(attempt / THINNED, thinned)
        if start is not None:
            records.write_atomic(attempt / START, start)
        for name, content in (left or {}).items():
            file = artifacts.file_of(attempt, name)
            file.parent.mkdir(exist_ok=True)
            records.write_atomic(file, content)
        own = structs.replace(record, attempt=int(attempt.name))
        written = records.write_attempt(attempt, own)
        return own.status is not Status.DONE or records.publish(written, run.folder)
    finally:
        lease.release()
