"""Output of a run: its newest attempt's log, its traceback, the log of its job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from retable.launch.slurm.sacct import Accounting
from retable.monitor import run_states
from retable.monitor.run_states import Known, Seen
from retable.monitor.state import OPEN
from retable.runs import records
from retable.runs.lease import FILE as LEASE
from retable.runs.records import RecordError
from retable.util.errors import UserError

LOG = "log.txt"
_READ_EVERY_S = 0.5
_LOOK_EVERY_S = 15.0
"""Seconds between queries of the cluster on a run that is followed and that nobody is doing."""


@dataclass(frozen=True)
class Logs:
    """Files of a run, None where there is none.

    Attributes:
        folder: the run's.
        attempts: how many it has had.
        log: of its newest attempt.
        traceback: of the same.
        job: what the job that does it, or did, has printed.
        job_id: that job's, as scancel calls it; "" where none has had it.
    """

    folder: Path
    attempts: int
    log: Path | None
    traceback: Path | None
    job: Path | None
    job_id: str

    @classmethod
    def of(cls, folder: Path) -> Logs:
        """Those of a run in its folder."""
        attempts = records.attempts(folder)
        log, traceback = (
            (_there(attempts[0] / LOG), _there(attempts[0] / "traceback.txt"))
            if attempts
            else (None, None)
        )
        at = run_states.assigned_to(folder.parents[1], f"{folder.parent.name}/{folder.name}")
        printed = at and _there(at.submission.folder / "log" / f"{at.array}-{at.task}.txt")
        return cls(folder, len(attempts), log, traceback, printed, at.id if at else "")

    def rest_of_traceback(self) -> str:
        """The traceback, as far as the log does not have it already."""
        if self.traceback is None:
            return ""
        text = self.traceback.read_text(encoding="utf-8", errors="replace")
        known = self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""
        return "" if text.strip() in known else text


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def see(folder: Path) -> Seen:
    """Determine the state of a run; asks the cluster only where the run may be there."""
    runs, name = folder.parents[1], f"{folder.parent.name}/{folder.name}"

    def known() -> Known:
        record = records.read_run(folder, lambda _: None)
        return Known({name: (record.status, True)} if record else {}, lambda _: record)

    return run_states.states_of(runs, [name], known, Accounting()).runs[name]


def state_text(folder: Path) -> str:
    """The same in words."""
    try:
        seen = see(folder)
    except UserError as error:
        return f"unknown: {error}"
    return f"{seen.state}{f': {seen.why}' if seen.why else ''}"


def pieces(
    folder: Path, path: Callable[[Logs], Path | None], say: Callable[[str], None]
) -> Iterator[bytes]:
    """Follow a run's log: yield what is added, over all attempts to come, until the run has ended.

    Args:
        folder: the run's.
        path: which of its files.
        say: told when another file begins, and how it ended.
    """
    current: Path | None = None
    position, look_at = 0, 0.0
    while True:
        over = _has_ended(folder)  # before the last reading, so that nothing is missed
        now = path(Logs.of(folder))
        if current is not None and now != current:
            yield from _added(current, position)
        if now is not None and now != current:
            say(str(now))
            current, position = now, 0
        for piece in _added(current, position) if current else ():
            position += len(piece)
            yield piece
        if not over and time.monotonic() >= look_at and not (folder / LEASE).exists():
            look_at = time.monotonic() + _LOOK_EVERY_S
            over = see(folder).state not in OPEN
        if over:
            say(state_text(folder))
            return
        time.sleep(_READ_EVERY_S)


def _added(path: Path, position: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(position)
            while piece := file.read(1 << 16):
                yield piece
    except OSError:
        return


def _has_ended(folder: Path) -> bool:
    for place in (folder, *records.attempts(folder)[:1]):
        try:
            record = records.read(place / records.RUN_RECORD)
        except RecordError:
            continue
        if record is not None and not record.status.resumable:
            return not (folder / LEASE).exists()
    return False
