"""Progress of a run that is going on: the last row of its history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retable.config.schema import RunConfig
from retable.runs import history, records


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
    file = history.file_of_newest(records.attempts(folder))
    row = None if file is None else history.last_row(file)
    if row is None:
        return Epoch(0, of)
    name = history.shown_metric(row, metrics)
    return Epoch(int(row["epoch"]) + 1, of, name, row.get(name, 0.0))
