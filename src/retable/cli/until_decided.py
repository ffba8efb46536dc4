"""`retable run --until-decided`: seeds are added look by look, only where something is open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING

from retable.cli.options import say
from retable.util.errors import UserError
from retable.util.text import on_table

if TYPE_CHECKING:
    from retable.tables.grid import Grid


def run_until_decided(
    planned: list[Grid], most: int | None, launch: Callable[[list[Grid]], bool]
) -> tuple[bool, list[Grid]]:
    """Fix the looks of some tables, or find them fixed, and run until each is over.

    Args:
        planned: the tables, with no look taken or with those taken so far.
        most: seeds there may be.
        launch: does all runs of some tables, and says whether all is well.

    Returns:
        Whether all is well, and the tables as they stand.
    """
    from retable.tables import collect
    from retable.tables.looks_spec import declared_in
    from retable.tables.verdicts import sequential

    for grid in planned:  # all of them before any looks are fixed
        if declared_in(grid.spec, grid.protocol) is not None:
            raise UserError(
                f"{grid.name}: --until-decided: its file fixes the looks, and all seeds are run"
                f" ({on_table('run', grid.name, grid.protocol)})"
            )
    for grid in planned:
        file = collect.looks_of(grid)
        if file is None:
            raise UserError(f"{grid.name}: has no cell to run under protocol {grid.protocol}")
        started = grid.course is None and bool(collect.from_runs(grid, lambda _: None))
        sequential.fix(file, most, date.today().isoformat(), started=started)
    ok, ended = True, list["Grid"]()
    for grid in planned:
        before = None
        while True:
            grid = collect.decided_by_runs(grid)
            assert grid.course is not None
            state = (grid.course.needed, [c.selection for c in grid.cells.values()])
            if not grid.course.needed or state == before:  # over, or some run cannot be done
                break
            before = state
            count, n = grid.course.taken + 1, max(grid.course.needed.values())
            cells = len(grid.course.needed)
            what = "1 cell" if cells == 1 else f"{cells} cells"
            say(f"{grid.name}: look {count}, {what} at {n} seeds")
            ok = launch([sequential.waiting_for(grid)])
        ok = ok and not grid.course.needed
        ended.append(grid)
    return ok, ended


def refuse_beside_looks(planned: list[Grid]) -> None:
    """Refuse to run seeds at will where looks are fixed.

    Raises:
        UserError: naming the table and the way on.
    """
    for grid in planned:
        if grid.course is not None:
            most = grid.course.looks.seeds[-1]
            raise UserError(
                f"{grid.name}: is run until it is decided (looks up to {most} seeds, fixed on"
                f" {grid.course.looks.fixed}); go on with --until-decided"
            )
