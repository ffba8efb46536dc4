"""Numbers that a table asks for and that none of the finished runs behind a cell has recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from retable.runs.records import Record, Status
from retable.tables.address import Address
from retable.tables.aggregate import Cell, Table
from retable.tables.collect import History
from retable.tables.grid import Grid
from retable.util.errors import UserError, nearest
from retable.util.text import counted


@dataclass(frozen=True)
class Unrecorded:
    """Cells of one address that have finished runs and no number.

    Attributes:
        text: what is not there and what was probably meant, with the key of the table file.
        cells: their row and column.
        is_mistake: whether no finished run of the table has recorded the metric, so that its name
            can only be wrong. Else a method may have had nothing to record there.
    """

    text: str
    cells: list[tuple[str, str]]
    is_mistake: bool


class _Missing(NamedTuple):
    """What a record has not: key of the table file, the name there, and what is near it."""

    key: str
    what: str
    hint: str
    is_metric: bool = False


def refuse_mistakes(found: Sequence[Unrecorded], table: str) -> None:
    """Refuse a table with a metric that none of its runs records.

    Raises:
        UserError: with the key of the table file and the nearest name that was recorded.
    """
    for one in found:
        if one.is_mistake:
            raise UserError(f"{table}: {one.text}")


def unrecorded(
    grid: Grid, table: Table, records: Mapping[str, Record], history: History
) -> list[Unrecorded]:
    """What none of a cell's finished runs has recorded, once for each address.

    Args:
        grid: the planned table.
        table: its cells.
        records: of its runs, by key.
        history: gives a run's history.
    """
    empty: dict[tuple[str, Address], list[Cell]] = {}
    given: set[str] = set()
    for place, plan in grid.cells.items():
        cell = table.cells[place]
        if cell.raw or cell.values or grid.spec.metrics[cell.metric].absent:
            given.add(plan.address.metric)
        elif cell.n_done:
            empty.setdefault((cell.metric, plan.address), []).append(cell)
    found: dict[tuple[str, str], tuple[_Missing, list[Cell]]] = {}
    for (metric, address), cells in empty.items():
        record = _finished(grid, (cells[0].row, cells[0].column), records)
        if record is None:  # the cell has it from where records are not any more
            continue
        missing = _missing(metric, cells[0], address, record, history)
        # A metric that is nowhere is one mistake, whichever rows and steps of it are asked for.
        found.setdefault((missing.key, missing.what), (missing, []))[1].extend(cells)
    out: list[Unrecorded] = []
    for missing, cells in found.values():
        places = [(cell.row, cell.column) for cell in cells]
        more = f" and of {counted(len(cells) - 1, 'more cell')}" if len(cells) > 1 else ""
        runs = counted(cells[0].n_done, "finished run")
        said = f"is not in the records of the {runs} of row {places[0][0]}, column {places[0][1]}"
        text = f"{missing.key}: {missing.what} {said}{more}{missing.hint}"
        mistake = missing.is_metric and grid.cells[places[0]].address.metric not in given
        out.append(Unrecorded(text, places, mistake))
    return out


def _finished(grid: Grid, place: tuple[str, str], records: Mapping[str, Record]) -> Record | None:
    keys = (key for key in grid.cell_keys(grid.cells[place]) if key in records)
    return next((r for key in keys if (r := records[key]).status is Status.DONE), None)


def _missing(
    metric: str, cell: Cell, address: Address, record: Record, history: History
) -> _Missing:
    """What a cell's run has not."""
    if address.epoch is not None:
        rows = history(record)
        epochs = [int(row["epoch"]) for row in rows if address.metric in row]
        if epochs:
            hint = (
                f"; the history has it from epoch {epochs[0]} to {epochs[-1]}, not in all of them"
            )
            key = f"columns.{cell.column}.epoch"
            return _Missing(key, f"{address.metric} at epoch {address.epoch}", hint)
        names = {name for row in rows for name in row} - {"epoch"}
    else:
        same = [result for result in record.results if result.metric == address.metric]
        if same:
            return _missing_place(cell, address, {(r.result_row, r.step) for r in same})
        names = {result.metric for result in record.results} | record.validation.keys()
    hint = nearest(address.metric, names)
    return _Missing(f"metrics.{metric}.key", f"'{address.metric}'", hint, is_metric=True)


def _missing_place(cell: Cell, address: Address, places: set[tuple[str, int | None]]) -> _Missing:
    """A result row or a step that a run has not, of a metric that it has."""
    rows = {row for row, _ in places}
    if address.result_row not in rows:
        name = f"{address.metric}, result row '{address.result_row}'"
        hint = nearest(address.result_row, rows - {""})
        return _Missing(f"rows.{cell.row}", name, hint)
    steps = sorted(step for row, step in places if row == address.result_row and step is not None)
    hint = f"; {len(steps)} steps are, {steps[0]} to {steps[-1]}" if steps else ""
    return _Missing(f"columns.{cell.column}.step", address.text(), hint)
