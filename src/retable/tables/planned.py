"""Plans of several tables, with progress, since the first time Hydra composes each setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from retable.config.compose_cache import planning
from retable.tables import collect, grid
from retable.tables.grid import Grid
from retable.util.errors import UserError
from retable.util.progress import Progress


def plan_tables(
    names: Sequence[str],
    protocol: str,
    *,
    seeds: int | None = None,
    source: str = "runs",
    **part: Sequence[str] | None,
) -> list[Grid]:
    """Plan tables, with the settings that tuning runs have chosen; starts nothing.

    Args:
        names: of tables that have the protocol.
        protocol: of all of them.
        seeds: only the first so many of a table's.
        source: of the tuning runs, ``runs`` or ``results``.
        part: ``rows``, ``columns`` and ``overrides``, see :func:`~retable.tables.grid.plan`.

    Raises:
        UserError: for a row, column or override that is not known, and for rows and columns that
            have no cell under the protocol.
    """
    decided = collect.decided_by_results if source == "results" else collect.decided_by_runs
    chosen = {option: list(values or []) for option, values in part.items()}
    found: list[Grid] = []
    with planning(), Progress("planning tables", len(names)) as progress:
        for name in names:
            found.append(decided(grid.plan(name, protocol, n_seeds=seeds, **chosen)))
            progress.advance()
    asked = {part: chosen.get(part, []) for part in ("rows", "columns")}
    if any(asked.values()) and not any(one.cells for one in found):
        _refuse_empty(found, protocol, **asked)
    return found


def _refuse_empty(
    grids: Sequence[Grid], protocol: str, *, rows: list[str], columns: list[str]
) -> NoReturn:
    """Say under which protocols the rows and columns have cells, where this one has none."""
    elsewhere = {
        p
        for spec in (grid.spec for grid in grids)
        for p in spec.protocols()
        for row in rows or spec.rows
        for column in columns or spec.columns
        if spec.rows[row].runs_in(column) and spec.experiment(column, p, row) is not None
    }
    asked = " ".join([*(f"--row {row}" for row in rows), *(f"--column {c}" for c in columns)])
    where = f"; it is run under {', '.join(sorted(elsewhere))}" if elsewhere else ""
    raise UserError(f"{grids[0].name}: protocol {protocol} runs nothing of {asked}{where}")
