"""How far a run that is going on has come: the last row of its history."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retable.config.schema import RunConfig
from retable.runs import records

_TAIL = 1 << 16  # bytes; a row has some hundred


@dataclass(frozen=True)
class Epoch:
    """Epochs that are finished, of how many, and one metric of the last of them.

    Attributes:
        done: epochs that are finished.
        of: all of them; None where that is not known.
        metric: its name; "" where the row has none.
        value: its value.
    """

    done: int
    of: int | None = None
    metric: str = ""
    value: float = 0.0

    def text(self) -> str:
        """``epoch 3 of 10, val/accuracy 0.912``."""
        of = "" if self.of is None else f" of {self.of}"
        metric = f", {self.metric} {self.value:.4g}" if self.metric else ""
        return f"epoch {self.done}{of}{metric}"


def newest(folder: Path, config: RunConfig | None = None, metrics: Sequence[str] = ()) -> Epoch:
    """The last epoch in the history of a run's newest attempt, or of the one before it.

    An attempt that goes on from a checkpoint has no history of its own before its first epoch.

    Args:
        folder: the run's folder.
        config: says of how many epochs, and which metric chooses among them.
        metrics: names of metrics of the test that are wanted most.
    """
    of = None
    if config is not None:
        of = config.trainer.max_epochs if "fit" in config.stages else None
        if config.best_epoch is not None:
            metrics = [config.best_epoch.monitor, *metrics]
    for attempt in records.attempts(folder)[:2]:
        row = _last_row(attempt / "history.jsonl")
        if row is not None:
            name = _metric(row, metrics)
            return Epoch(int(row["epoch"]) + 1, of, name, row.get(name, 0.0))
    return Epoch(0, of)


def _last_row(path: Path) -> dict[str, float] | None:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().splitlines()
        row: Any = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return None
    good = isinstance(row, dict) and isinstance(row.get("epoch"), int | float)
    return {k: v for k, v in row.items() if isinstance(v, int | float)} if good else None


def _metric(row: dict[str, float], wanted: Sequence[str]) -> str:
    """What is shown of a row: what is wanted, its like of the validation, else a loss."""
    names = list(wanted)
    names += [f"{part}/{n.partition('/')[2]}" for part in ("val", "train") for n in wanted]
    names += [name for name in sorted(row) if name.startswith("val/")]
    names += [name for name in ("train/loss", *sorted(row)) if name != "epoch"]
    return next((name for name in names if name in row), "")
