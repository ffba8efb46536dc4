"""Where the number of a cell stands, and the refusals of one that its runs cannot have."""

from __future__ import annotations

from dataclasses import dataclass

from retable.runs.columns import Place
from retable.runs.frozen import FrozenRun
from retable.util.errors import UserError, nearest


@dataclass(frozen=True)
class Address:
    """Where a cell's number stands: in a record, or with an epoch in the run's history."""

    metric: str
    result_row: str
    step: int | None
    epoch: int | str | None = None

    @property
    def place(self) -> Place:
        """The same for who collects records."""
        if self.epoch is not None:
            return self.metric, None, self.epoch
        return self.metric, self.result_row, self.step

    def text(self) -> str:
        """In words."""
        row = f", result row {self.result_row}" if self.result_row else ""
        step = f", step {self.step}" if self.step is not None else ""
        epoch = f", epoch {self.epoch} of the history" if self.epoch is not None else ""
        return f"{self.metric}{row}{step}{epoch}"


def refuse_impossible(where: str, run: FrozenRun, address: Address) -> None:
    """Refuse the number of a test that a run does not make, and of an epoch that it never reaches.

    Args:
        where: the cell, for the message.
        run: of the cell's setting.
        address: of its number.
    """
    tested, row = run.config.tested, address.result_row
    if tested and address.metric.startswith("test/") and row.partition("/")[0] not in tested:
        raise UserError(
            f"{where}: its run tests the rows {', '.join(tested)} (tested), so that result_row has"
            f" to be one of them, not '{row}'{nearest(row, tested) if row else ''}"
        )
    epochs = run.config.trainer.max_epochs
    if isinstance(address.epoch, int) and epochs is not None and address.epoch >= epochs:
        raise UserError(
            f"{where}: epoch: {address.epoch}, and its run has the epochs 0 to {epochs - 1}"
            " (trainer.max_epochs); a share, such as 50%, holds for every protocol"
        )
