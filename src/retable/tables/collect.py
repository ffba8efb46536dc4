"""Records of a table's runs, from the run folders or from the published Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from retable import records
from retable.launch.frozen import FrozenRun
from retable.records import Record
from retable.tables.grid import Grid
from retable.tables.select import decide


def from_runs(grid: Grid, warn: Callable[[str], None]) -> dict[str, Record]:
    """Records in the run folders, by key."""
    return of_runs(grid.runs(), warn)


def of_runs(runs: Iterable[FrozenRun], warn: Callable[[str], None]) -> dict[str, Record]:
    """Records of some runs in their folders, by key."""
    found: dict[str, Record] = {}
    for run in runs:
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


def decided_by_runs(grid: Grid) -> Grid:
    """The table with the choices that the tuning runs in the run folders allow."""
    return decide(grid, lambda runs: of_runs(runs, lambda _: None))


def decided_by_results(grid: Grid) -> Grid:
    """The table with the choices that the published tuning runs allow."""
    return decide(grid, lambda _: from_results(grid))
