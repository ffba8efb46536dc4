"""Which rows and columns of a table are shown, and which of them go down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from retable.tables.aggregate import Table
from retable.tables.results import CellId
from retable.tables.spec_parts import Column, Row
from retable.util.text import counted

_NAMED = 4
"""Lines left out that are named; of more, some are, and how many there are besides."""


def sides(table: Table) -> tuple[dict[str, str], dict[str, str]]:
    """Titles by name of what goes down and of what goes across.

    A row or column of which the protocol runs nothing and nothing is reported has no cell; it is
    left out, and :func:`left_out` says so.
    """
    rows, columns = _shown(table)
    return (columns, rows) if table.spec.transposed else (rows, columns)


def place(table: Table, down: str, across: str) -> CellId:
    """The cell, by row and column, at a place of the laid out table; and the other way round."""
    return (across, down) if table.spec.transposed else (down, across)


def left_out(table: Table) -> list[str]:
    """A sentence on rows and one on columns that are not shown, as they would be laid out."""
    rows, columns = _shown(table)
    spec, found = table.spec, list[str]()
    words = ("column", "row") if spec.transposed else ("row", "column")
    parts = ((spec.rows, rows), (spec.columns, columns))
    for what, (known, shown) in zip(words, parts, strict=True):
        gone = [part.title or name for name, part in known.items() if name not in shown]
        if gone:
            named = gone if len(gone) <= _NAMED else gone[: _NAMED - 1]
            more = f"; and {len(gone) - len(named)} more" if len(gone) > len(named) else ""
            listed = "; ".join(named)
            found.append(
                f"Protocol {table.protocol} does not run {counted(len(gone), what)} of the table:"
                f" {listed}{more}"
            )
    return found


def _shown(table: Table) -> tuple[dict[str, str], dict[str, str]]:
    spec = table.spec
    rows, columns = (
        _titles(parts, {place[side] for place in table.cells})
        for side, parts in enumerate((spec.rows, spec.columns))
    )
    return rows, columns


def _titles(parts: Mapping[str, Row] | Mapping[str, Column], used: Iterable[str]) -> dict[str, str]:
    titles = {name: part.title or name for name, part in parts.items()}
    return {name: title for name, title in titles.items() if name in used} or titles
