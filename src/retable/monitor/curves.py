"""Curves of the runs that are going on, read again only where the file has changed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retable.config.schema import RunConfig
from retable.monitor import run_progress as epochs
from retable.monitor.run_progress import Epoch
from retable.runs import history, records

_Stamp = tuple[str, int, int, int]


@dataclass(frozen=True)
class Curve:
    """Progress of a run, and one metric of its finished epochs.

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
        file = history.file_of_newest(records.attempts(folder))
        stamp = _stamp(file)
        known = self._known.get(folder)
        if known is not None and known[0] == stamp:
            return known[1]
        # How far it is comes first: an epoch that ends meanwhile is one more value, not one less.
        epoch = epochs.newest(folder, config, metrics)
        rows = history.readable_rows(file) if file else []
        chosen = [config.best_epoch.monitor] if config.best_epoch else []
        curve = _curve(epoch, rows, [*chosen, *metrics])
        self._known[folder] = stamp, curve
        return curve

    def keep(self, folders: Sequence[Path]) -> None:
        """Forget all others."""
        wanted = set(folders)
        self._known = {f: known for f, known in self._known.items() if f in wanted}


def _stamp(file: Path | None) -> _Stamp | None:
    try:
        stat = os.stat(file) if file else None  # noqa: PTH116
    except OSError:
        return None
    return (str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else None


def _curve(epoch: Epoch, rows: Sequence[history.Row], wanted: Sequence[str]) -> Curve:
    """The curve of what is wanted most of all that any epoch has; not every epoch validates."""
    name = history.shown_metric(history.metrics_of(rows), wanted)
    values = [float(v) for row in rows if isinstance(v := row.get(name), int | float)]
    kept = [value for value in values if math.isfinite(value)]
    return Curve(epoch.done, epoch.of, name, kept)
