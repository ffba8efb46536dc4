"""Points of a run's history that tables show: the metrics of one epoch, by number or share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from retable.runs.columns import Place
from retable.runs.records import Record, text_sha256

FILE = "history.jsonl"
THINNED = "history.thinned.jsonl"
"""What is left of a history that was thinned for its publication, beside a restored record."""

Row = dict[str, float]


def of_history(place: Place) -> bool:
    """Whether a place is in the history, not in the record."""
    return place[1] is None and place[2] is not None


def row_at(rows: Sequence[Row], epoch: int | str) -> Row | None:
    """The row of an epoch; None where there is none, as in a history that was thinned.

    Args:
        rows: of the history of a run that has ended; its last row has to be there.
        epoch: number, from 0; or a share of all epochs, ``50%`` for the last of the first half.
    """
    if not rows:
        return None
    if isinstance(epoch, str):
        epochs = int(rows[-1]["epoch"]) + 1
        epoch = max(1, epochs * int(epoch.removesuffix("%")) // 100) - 1
    return next((row for row in rows if row["epoch"] == epoch), None)


def value_in(rows: Sequence[Row], place: Place) -> float:
    """A history's number at a place; NaN where there is none."""
    metric, _, epoch = place
    row = None if epoch is None else row_at(rows, epoch)
    return math.nan if row is None else row.get(metric, math.nan)


def named(rows: Sequence[Row], places: Iterable[Place]) -> set[int]:
    """Positions of the rows that some of the places are in."""
    epochs = {place[2] for place in places if of_history(place)}
    found = [row_at(rows, epoch) for epoch in epochs if epoch is not None]
    return {number for number, row in enumerate(rows) if any(row is one for one in found)}


def rows_of_run(folder: Path, record: Record) -> list[Row]:
    """History of a run by its folder and the record that speaks for it.

    The whole one, where it is what the record hashes; else what publishing has left of it. So
    numbers of it can be kept as long as the record stands.
    """
    attempt = folder / "attempts" / str(record.attempt)
    try:
        text = (attempt / FILE).read_text(encoding="utf-8")
        if text_sha256(text) == record.history_sha256:
            return _rows(text)
    except (OSError, ValueError):
        pass
    try:
        return _rows((attempt / THINNED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []


def _rows(text: str) -> list[Row]:
    return [json.loads(line) for line in text.splitlines()]
