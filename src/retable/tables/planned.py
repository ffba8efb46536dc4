"""Plans of several tables, with progress, since the first time Hydra composes each setting."""

from __future__ import annotations

from collections.abc import Sequence

from retable.config.compose_cache import planning
from retable.tables import collect, grid
from retable.tables.grid import Grid
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
        UserError: for a row, column or override that is not known.
    """
    decided = collect.decided_by_results if source == "results" else collect.decided_by_runs
    chosen = {option: list(values or []) for option, values in part.items()}
    found: list[Grid] = []
    with planning(), Progress("planning tables", len(names)) as progress:
        for name in names:
            found.append(decided(grid.plan(name, protocol, n_seeds=seeds, **chosen)))
            progress.advance()
    return found
