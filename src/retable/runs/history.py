"""The history of an attempt: a row of metrics per epoch, as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from retable.runs.history_points import FILE, Row
from retable.runs.identity import canonical_json

_TAIL = 1 << 16  # bytes; a row has some hundred
_COUNTERS = ("epoch", "step")


def history_text(rows: Iterable[Row]) -> str:
    """A history as text; what ``history_sha256`` of a record hashes."""
    return "".join(f"{canonical_json(row)}\n" for row in rows)


def rows_of(text: str) -> list[Row]:
    """The rows of a history that is text.

    Raises:
        ValueError: for a line that is no JSON.
    """
    return [json.loads(line) for line in text.splitlines()]


def read(attempt: Path) -> list[Row]:
    """The rows that an attempt has written, none where it has not got so far.

    Raises:
        OSError: where the file cannot be read.
        ValueError: where it is broken.
    """
    try:
        return rows_of((attempt / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []


def read_or_empty(attempt: Path) -> list[Row]:
    """The rows of an attempt, none where any of them cannot be read."""
    try:
        return read(attempt)
    except (OSError, ValueError):
        return []


def file_of_newest(attempts: Sequence[Path]) -> Path | None:
    """The history that says how far a run is: of its newest attempt, or of the one before it.

    An attempt that goes on from a checkpoint has no history of its own before its first epoch.

    Args:
        attempts: folders of the attempts, the newest first.
    """
    return next((file for a in attempts[:2] if (file := a / FILE).exists()), None)


def last_row(file: Path) -> Row | None:
    """The numbers of a history's last row; only the end of the file is read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            row: Any = json.loads(stream.read().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return None
    good = isinstance(row, dict) and isinstance(row.get("epoch"), int | float)
    return {k: v for k, v in row.items() if isinstance(v, int | float)} if good else None


def readable_rows(file: Path) -> list[Row]:
    """The rows of a history that is being written; a broken line is left out."""
    import msgspec  # twice as fast, for boards that look at many runs every few seconds

    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return []
    found: list[Row] = []
    for line in lines:
        with suppress(ValueError):
            found.append(msgspec.json.decode(line, type=dict[str, Any]))
    return found


def metrics_of(rows: Iterable[Row]) -> list[str]:
    """Names of a history's metrics, all but its counters, in alphabetical order."""
    return sorted({name for row in rows for name in row} - set(_COUNTERS))


def shown_metric(there: Collection[str], wanted: Sequence[str]) -> str:
    """The metric to show where there is room for one; "" where a history has none.

    Args:
        there: names that the history has.
        wanted: names of metrics, most wanted first. One of the test stands for its like of the
            validation or the training, where it is not there itself.
    """
    parts = ("val", "train")
    like = [f"{part}/{name.partition('/')[2]}" for part in parts for name in wanted]
    names = sorted(set(there) - set(_COUNTERS))
    order = [*wanted, *like, *(n for n in names if n.startswith("val/")), "train/loss", *names]
    return next((name for name in order if name in there), "")


def validation(rows: Iterable[dict[str, float]], best_epoch: int | None) -> dict[str, float]:
    """Validation metrics, if any, of the epoch whose weights were tested: best, else last."""
    epochs = {int(row["epoch"]): row for row in rows}
    tested = epochs.get(max(epochs, default=0) if best_epoch is None else best_epoch, {})
    return {name: float(value) for name, value in tested.items() if name.startswith("val/")}
