"""How the numbers of columns over other columns are made, in words and with the numbers put in."""

from __future__ import annotations

from collections.abc import Iterator

from retable.tables import over_columns
from retable.tables.aggregate import Cell, Table
from retable.tables.over_columns_spec import Base, OverColumns, behind, ranked
from retable.tables.spec import TableSpec

_NAMED = 8
"""Columns named one by one; more are counted."""


def said(spec: TableSpec, column: str) -> str:
    """What the numbers of a column over others are, in a sentence without its end."""
    over = spec.columns[column].over_columns
    assert over is not None
    titles = [spec.columns[one].title or one for one in over.columns]
    of = "; ".join(titles) if any("," in title for title in titles) else ", ".join(titles)
    of = of if len(titles) <= _NAMED else f"{len(titles)} columns"
    if over.base is None:
        but = ", ".join(spec.rows[row].title or row for row in over.exclude)
        return (
            f"mean over {of} of the row's rank among all rows run in them"
            f"{f' but {but}' if but else ''}, seed by seed; 1 is the best, equal numbers share the"
            " mean of their ranks"
        )
    turned = any(_larger_is_better(spec, one) for one in over.columns)
    what = "mean" if over.kind == "relative_change" else "standard deviation (ddof 0)"
    return (
        f"{what} over {of} of the relative change (M - B)/B in %"
        f"{', its sign turned where larger is better' if turned else ''}, so that less is better;"
        f" B: {_base(spec, over.base)}"
    )


def _larger_is_better(spec: TableSpec, column: str) -> bool:
    return spec.metrics[spec.columns[column].metric].direction == "max"


def _base(spec: TableSpec, base: Base) -> str:
    if base.row is not None:
        name = spec.rows[base.row].title or base.row
        return f"the mean over the seeds of {name}, taken as a constant"
    verified = "" if base.grade == "primary" else f", {base.grade} and not verified"
    return f"fixed values ({base.where}{verified})"


def notes(table: Table) -> list[str]:
    """A line below a table for each column over others that has a cell of ours."""
    shown = {cell.column for cell in table.cells.values() if cell.n_planned}
    return [
        f"{column.title or name}: {said(table.spec, name)}."
        for name, column in table.spec.columns.items()
        if column.over_columns is not None and name in shown
    ]


def steps(table: Table, cell: Cell) -> Iterator[str]:
    """How a cell came about: what it is, its bases, and seed by seed what each column gives."""
    spec = table.spec
    over = spec.columns[cell.column].over_columns
    if over is None or not cell.n_planned:
        return
    yield said(spec, cell.column)
    yield f"{cell.n} of {cell.n_planned} seeds have all that it is made of"
    yield from _against(table, cell, over)
    found = over_columns.shares(spec, table.cells, cell.row, cell.column, table.protocol)
    for seed, value in cell.values.items():
        parts = found.get(seed, {})
        digits = "g" if over.base is None else "+.4f"
        given = ", ".join(f"{one} {number:{digits}}" for one, number in parts.items())
        yield f"seed {seed}: {given}; together {value:.6g}"
    parts_of = behind(spec, cell.row, cell.column, table.protocol)
    rows = dict.fromkeys(row for row, _ in parts_of)
    yield f"runs: those of {', '.join(rows)} in {', '.join(over.columns)}; --explain has each cell"


def _against(table: Table, cell: Cell, over: OverColumns) -> Iterator[str]:
    if over.base is None:
        rows = ranked(table.spec, cell.column, table.protocol)
        yield f"ranked: {len(rows)} rows ({', '.join(rows)})"
        return
    base = over_columns.base_of(table.spec, table.cells, cell.column)
    numbers = (f"{one} {'–' if b is None else format(b, '.6g')}" for one, b in base.items())
    yield f"B: {', '.join(numbers)}"
