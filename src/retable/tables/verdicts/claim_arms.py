"""The cells of a claim as the arms of a contrast: ours by seed, or a number that is quoted only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from retable.tables.claim_spec import Claim
from retable.tables.results import Reading
from retable.tables.verdicts import contrast as tests
from retable.tables.verdicts.claim_contrasts import Sum, Term, column_title, ideal_of, row_title
from retable.tables.verdicts.contrast import Arm
from retable.tables.verdicts.reported import column_decimals, read

if TYPE_CHECKING:
    from retable.tables.aggregate import Cell, Table

_HANDED_ON = {"stale", "partly stale", "mixed devices", "selection stale", "not alone"}
"""Marks of cells that a claim about them has too."""

HEAVY_FROM = 20
"""Runs behind a reported row from which its spread tells about the tails."""


def printed(table: Table, column: str) -> int | None:
    """The most decimals printed in a column: a last zero may have been dropped."""
    cells = [found[column] for found in table.spec.reported.values() if column in found]
    return column_decimals(reported.value for reported in cells)


def is_ours(cell: Cell) -> bool:
    """Whether the cell is run, and not only reported."""
    return cell.n_planned > 0 or cell.n_absent > 0


def absent(table: Table, cells: Sequence[Cell]) -> str | None:
    """What it means that no run of some cell has its number, where all of them are done."""
    nowhere = (cell for cell in cells if cell.n_absent and not cell.n_planned)
    return next((table.spec.metrics[cell.metric].absent for cell in nowhere), None)


def arm_of(table: Table, claim: Claim, term: Term) -> Arm:
    """The arm of one term of a claim's sum."""
    weight, row, column = term
    cell, ideal = table.cells[row, column], ideal_of(table, claim, column)
    if not is_ours(cell):
        assert cell.reported is not None
        return Arm(weight, None, _away(read(cell.reported, printed(table, column)), ideal))
    return Arm(weight, _values(cell, ideal), None)


def _values(cell: Cell, ideal: float | None) -> Mapping[int, float]:
    if ideal is None:
        return cell.values
    return {seed: abs(value - ideal) for seed, value in cell.values.items()}


def _away(reading: Reading, ideal: float | None) -> Reading:
    return reading if ideal is None else replace(reading, value=abs(reading.value - ideal))


def is_heavy_sum(table: Table, one: Sum) -> bool:
    """Whether the sum's reported rows have many runs and one of its arms a heavy tail."""
    cells = [table.cells[row, column] for _, row, column in one.terms]
    reported = [cell.reported for cell in cells if cell.reported is not None]
    if not reported or any((r.n or 0) < HEAVY_FROM for r in reported):
        return False
    return any(is_heavy_cell(cell) for cell in cells)


def is_heavy_cell(cell: Cell) -> bool:
    """Whether our or the reported spread of a positive metric is above half of the mean.

    Of a cell that is relative to another row the recorded values tell whether it is positive: those
    that its mean is over are linearised, and may be negative.
    """
    if any(value < 0 for value in (cell.raw or cell.values).values()):
        return False
    reading = None if cell.reported is None else read(cell.reported)
    if reading is not None and reading.value < 0:
        return False
    return tests.is_heavy(
        cell.mean,
        cell.std,
        None if reading is None else reading.value,
        None if reading is None else reading.std,
    )


def reported_stds(table: Table, one: Sum) -> list[float | None]:
    """Reported standard deviation of each of a sum's cells."""
    out: list[float | None] = []
    for _, row, column in one.terms:
        reported = table.cells[row, column].reported
        out.append(None if reported is None else read(reported).std)
    return out


def marks_of(table: Table, cells: Sequence[Cell]) -> list[str]:
    """What has to be known beside a claim of what its cells are marked with."""
    marks: list[str] = []
    for cell in cells:
        found = [m for m in cell.marks if m in _HANDED_ON]
        if cell.n_absent:  # it is tested on the other seeds
            row = row_title(table, cell.row)
            said = [m for m in cell.marks if m.startswith(f"{cell.n_absent} of ")]
            found += [f"{row}, {column_title(table, cell.column)}: {m}" for m in said]
        if 0 < cell.n < cell.n_done:
            found.append(f"partial {cell.n}/{cell.n_done}: no value from the others")
        if not is_ours(cell) and cell.reported is not None:
            found.append(f"quoted number ({cell.reported.grade})")
        if is_heavy_cell(cell):
            found.append("heavy tails")
        marks += [mark for mark in found if mark not in marks]
    return marks
