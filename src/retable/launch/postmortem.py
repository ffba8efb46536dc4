"""Interpret a job's end: by its exit code, the record it left, and its lease."""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from retable.launch.forkserver_client import Ended
from retable.launch.worker import Exit
from retable.runs import records
from retable.runs.attempts import Launched, bare_record, new_attempt
from retable.runs.frozen import FrozenRun
from retable.runs.lease import Lease, read_holder
from retable.runs.records import Record, RecordError, Status


def newest(run: FrozenRun, *statuses: Status) -> Record | None:
    """The record of a run's newest attempt, where it has one of these statuses."""
    with suppress(OSError, RecordError):
        for folder in records.attempts(run.folder)[:1]:
            record = records.read(folder / records.RUN_RECORD)
            return record if record is not None and record.status in statuses else None
    return None


def holds(ended: Ended) -> bool:
    """Whether a process ended without giving its lease back: it did not come to its own end."""
    holder = read_holder(ended.run.folder)
    return holder is not None and holder.pid == ended.pid and holder.is_alive() is False


def first_line(run: FrozenRun, record: Record) -> str:
    """First line of a record's error, or else its status, and where to read more."""
    folder = run.folder / "attempts" / str(record.attempt)
    return f"{(record.error or record.status).splitlines()[0]} ({folder})"


def failure(ended: Ended, launched: Launched) -> str:
    """Why a job failed, in one line; leaves a record for a process that could not.

    Args:
        ended: the job.
        launched: provenance and runs at once, for the record.
    """
    if ended.error:
        return ended.error
    failed = newest(ended.run, Status.FAILED)
    if ended.code == Exit.REFUSED and not holds(ended):
        return "refused to start; the reason is above"
    if ended.code == Exit.FAILED and failed and not holds(ended):
        return first_line(ended.run, failed)
    if ended.code >= 0:
        message = f"its process ended with exit code {ended.code} and left no result"
    else:
        name = signal.Signals(-ended.code).name
        reason = " (out of memory, or killed by someone)" if name == "SIGKILL" else ""
        message = f"killed by {name}{reason}"
    with suppress(OSError, RecordError):
        record = record_death(ended, message, launched)
        return first_line(ended.run, record) if record else message
    return message


def give_up(run: FrozenRun, message: str, launched: Launched) -> None:
    """Leave a record that says why a run is not attempted any more; none where others hold it.

    Raises:
        OSError: where it cannot be written.
    """
    lease = Lease.acquire(run.folder, run.config.launcher.lease_s)
    if lease is None:
        return
    try:
        attempt = new_attempt(run.folder)
        records.write_attempt(attempt, _dead(run, launched, attempt, Status.FAILED, message))
    finally:
        lease.release()


def record_death(
    ended: Ended, message: str, launched: Launched, status: Status = Status.FAILED
) -> Record | None:
    """Leave a record for an attempt whose process could not write one itself.

    Only while the dead process's lease is in place: else another runner has gone on already, and
    the newest attempt is its own.

    Args:
        ended: the dead process.
        message: why it died.
        launched: provenance and runs at once.
        status: what its attempt comes to.

    Raises:
        OSError: where it cannot be written.
    """
    run = ended.run
    attempt = next(iter(records.attempts(run.folder)), None)
    if attempt is None or not holds(ended) or (attempt / records.RUN_RECORD).exists():
        return None
    record = _dead(run, launched, attempt, status, message)
    records.write_attempt(attempt, record)
    return record


def _dead(
    run: FrozenRun, launched: Launched, attempt: Path, status: Status, message: str
) -> Record:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return bare_record(run, launched, int(attempt.name), status, started=now, error=message)
