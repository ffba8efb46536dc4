"""Tables and cells of a planned table's runs, as the tags that W&B shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from retable.tables.grid import Grid
from retable.tracking import naming, tags
from retable.util.errors import brief

TUNING = "tuning"
"""Tag of runs that only choose a setting; no number of the table is theirs."""


def tags_of(grid: Grid) -> dict[str, list[str]]:
    """Tags of all runs of a table, by key: the table, and the cells that a run stands behind.

    Runs of a setting that is still to be chosen are not among them.
    """
    cells: dict[str, list[tuple[str, str]]] = {}
    tuning: dict[str, list[str]] = {}
    for place, cell in grid.cells.items():
        for key in grid.cell_keys(cell):
            cells.setdefault(key, []).append(place)
        for key in cell.selection.run_folders() if cell.selection else []:
            tuning[key] = [tags.table_tag(grid.name), TUNING]
    return {**tuning, **tags.of_table(grid.name, cells)}


def write_tags(grids: Sequence[Grid], warn: Callable[[str], None]) -> None:
    """Keep the tags of tables whose runs are followed by W&B, for whoever follows them.

    Args:
        grids: planned tables that are about to be launched.
        warn: told where they cannot be written, which stops nothing.
    """
    for grid in grids:
        some = next(iter(grid.cells.values()), None)
        if some is None or some.setting.config.logger.name != "wandb":
            continue
        runs = Path(some.setting.config.paths.runs)
        try:
            tags.write(runs, grid.name, grid.protocol, tags_of(grid))
        except OSError as error:
            why = brief(str(error.strerror))
            warn(f"{naming.folder(runs)}: {why}; runs of {grid.name} have no tags in W&B")
