"""Ledger of what an attempt has handed to W&B: a small file beside its history."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from retable.runs import records
from retable.runs.records import Record, RecordError, Status
from retable.tracking import naming
from retable.util.atomic import write_atomic

FILE = "wandb.json"

_ENDS = {status for status in Status if not status.resumable}


@dataclass(frozen=True)
class Ledger:
    """Ledger of what an attempt has handed to W&B.

    Attributes:
        id: of the run in W&B.
        mode: ``online`` or ``offline``.
        segment: folder of W&B's files of this attempt, below ``<runs>/_wandb/wandb``.
        upto: epochs whose metrics were handed over, by this attempt or by those it goes on from.
            Written before they are: after a kill an epoch may be missing there, never twice.
        finished: whether W&B's files were closed with the attempt's result in them.
    """

    id: str
    mode: str
    segment: str | None = None
    upto: int = 0
    finished: bool = False

    def write(self, attempt: Path) -> None:
        """Keep it with its attempt."""
        write_atomic(attempt / FILE, json.dumps(asdict(self), indent=1) + "\n")


def read(attempt: Path) -> Ledger | None:
    """Read an attempt's ledger; None where there is none, or the file is broken."""
    with suppress(OSError, ValueError, TypeError):
        return Ledger(**json.loads((attempt / FILE).read_text(encoding="utf-8")))
    return None


def begin(
    key: str, fingerprint: str, previous: Sequence[Path], resumed: Path | None, mode: str
) -> Ledger:
    """The ledger that an attempt starts with.

    Args:
        key: of the run.
        fingerprint: of its code.
        previous: folders of the earlier attempts.
        resumed: folder of the attempt that it goes on from; None where it starts anew.
        mode: ``online`` or ``offline``.
    """
    base = naming.run_id(key, fingerprint)
    earlier = [found for path in previous if (found := read(path)) and found.id.startswith(base)]
    if resumed is not None and (before := read(resumed)) and before.id.startswith(base):
        same = [found.upto for found in earlier if found.id == before.id]
        return Ledger(before.id, mode, upto=max(same))
    # An id that nothing was logged under can be used again.
    used = [naming.generation_of(found.id) for found in earlier if found.upto or found.finished]
    return Ledger(naming.run_id(key, fingerprint, max(used, default=-1) + 1), mode)


def lacks(folder: Path, *, online: bool) -> bool | None:
    """Whether W&B lacks something of a run that has come to its end.

    Args:
        folder: of the run.
        online: whether it was to be followed online.

    Returns:
        None where nothing is missing, or the run has not ended but for an interruption. True where
        a sync can complete it; False where W&B was told nothing, so that a sync knows of nothing.

    Raises:
        OSError: where the folder cannot be read.
    """
    newest = next(iter(records.attempts(folder)), None)
    if newest is None:
        return None
    told = read(newest)
    if told is not None and told.finished and (told.mode == "online" or not online):
        return None
    record = record_of(newest)
    if record is None or record.status not in _ENDS:
        return None
    return bool(of_run(folder))


def record_of(attempt: Path, warn: Callable[[str], None] = lambda _: None) -> Record | None:
    """Record of an attempt; None where it has none, or one that cannot be read, which is told."""
    try:
        return records.read(attempt / records.RUN_RECORD)
    except RecordError as error:
        warn(str(error))
        return None


def of_run(folder: Path) -> list[tuple[Path, Ledger]]:
    """Attempts of a run that told W&B something, the first one first."""
    pairs = ((path, read(path)) for path in reversed(records.attempts(folder)))
    return [(path, ledger) for path, ledger in pairs if ledger is not None]
