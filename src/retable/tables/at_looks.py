"""Which of the looks at a table are taken: a look waits for all runs that a cell needs for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from retable.tables.results import CellId

if TYPE_CHECKING:
    from retable.tables.aggregate import Cell
    from retable.tables.spec import TableSpec

Cells = Mapping[CellId, "Cell"]


def taken(spec: TableSpec, at_looks: Sequence[Cells], place: CellId) -> int:
    """Number of looks at a cell that are complete, with the row that it is relative to.

    Args:
        spec: the table file.
        at_looks: the cells with the seeds of each look.
        place: of the cell.
    """
    above = spec.reference(place[1])
    behind = [place] if above is None else [place, (above, place[1])]
    for number, cells in enumerate(at_looks):
        if any(at in cells and cells[at].waits for at in behind):
            return number
    return len(at_looks)


def last_taken(spec: TableSpec, at_looks: Sequence[Cells]) -> dict[CellId, Cell]:
    """Each cell as at the last look that is taken, or at the first, which it waits for."""
    return {
        place: at_looks[max(taken(spec, at_looks, place), 1) - 1][place] for place in at_looks[0]
    }
