"""Records of a table's runs, from the run folders or from the published Parquet file."""

from __future__ import annotations

from collections.abc import Callable

from retable import records
from retable.records import Record
from retable.tables.grid import Grid


def from_runs(grid: Grid, warn: Callable[[str], None]) -> dict[str, Record]:
    """Records in the run folders, by key."""
    found: dict[str, Record] = {}
    for run in grid.runs():
        record = records.read_run(run.folder, warn)
        if record is not None:
            found[run.key] = record
    return found


def from_results(grid: Grid) -> dict[str, Record]:
    """Records published with the table, by key; empty where there are none."""
    from retable.report.parquet import parquet_file, read

    path = parquet_file(grid.name, grid.protocol)
    if not path.is_file():
        return {}
    wanted = {run.key for run in grid.runs()}
    return {r.key: r for r in read(path) if r.key in wanted}
