"""Curves of the runs that are going on, read again only where the file has changed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from retable.config.schema import RunConfig
from retable.monitor import run_progress as epochs
from retable.monitor.run_progress import Epoch
from retable.runs import records

_Stamp = tuple[str, int, int, int]


@dataclass(frozen=True)
class Curve:
    """How far a run is, and one metric of its finished epochs.

    Attributes:
        done: epochs that are finished.
        of: all of them; None where that is not known.
        metric: its name; "" where there is none yet.
        values: of the metric, finite, in the order of the epochs; of those that have it.
    """

    done: int
    of: int | None
    metric: str = ""
    values: list[float] = field(default_factory=list[float])


class Curves:
    """Curves by the runs' folders."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Stamp | None, Curve]] = {}

    def of(self, folder: Path, config: RunConfig, metrics: Sequence[str]) -> Curve:
        """The curve of a run.

        Args:
            folder: where it is done.
            config: its config.
            metrics: of the test, that are wanted most; their like of the validation is shown.
        """
        file = _history(folder)
        stamp = _stamp(file)
        known = self._known.get(folder)
        if known is not None and known[0] == stamp:
            return known[1]
        # How far it is comes first: an epoch that ends meanwhile is one more value, not one less.
        epoch = epochs.newest(folder, config, metrics)
        rows = _rows(file) if file else []
        curve = _curve(epoch, rows, _wanted(config, metrics))
        self._known[folder] = stamp, curve
        return curve

    def keep(self, folders: Sequence[Path]) -> None:
        """Forget all others."""
        wanted = set(folders)
        self._known = {f: known for f, known in self._known.items() if f in wanted}


def _history(folder: Path) -> Path | None:
    """The history that says how far a run is: of its newest attempt, or of the one before it."""
    files = (attempt / "history.jsonl" for attempt in records.attempts(folder)[:2])
    return next((file for file in files if file.exists()), None)


def _stamp(file: Path | None) -> _Stamp | None:
    try:
        stat = os.stat(file) if file else None  # noqa: PTH116
    except OSError:
        return None
    return (str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else None


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a history; a broken line is left out."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines:
        with suppress(ValueError):
            found.append(msgspec.json.decode(line, type=dict[str, Any]))
    return found


def _wanted(config: RunConfig, metrics: Sequence[str]) -> list[str]:
    """Metrics whose curve is wanted, most wanted first."""
    names = [name.partition("/")[2] for name in metrics]
    chosen = [config.best_epoch.monitor] if config.best_epoch else []
    return [*chosen, *(f"{part}/{name}" for part in ("val", "train") for name in names)]


def _curve(epoch: Epoch, rows: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Curve:
    """The curve of what is wanted most of all that any epoch has; not every epoch validates."""
    names = {name for row in rows for name in row} - {"epoch", "step"}
    order = [*wanted, *sorted(n for n in names if n.startswith("val/")), "train/loss"]
    name = next((name for name in [*order, *sorted(names)] if name in names), "")
    values = [float(v) for row in rows if isinstance(v := row.get(name), int | float)]
    kept = [value for value in values if math.isfinite(value)]
    return Curve(epoch.done, epoch.of, name, kept)
