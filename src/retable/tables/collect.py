"""Records of a table's runs, from the run folders or from the published Parquet file.

Of few runs every record is read. Of very many, what the table needs of them is kept in an index
(:mod:`retable.runs.index`), and only records that are new or changed are read, by several
processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from retable.runs import artifacts, history_points, index, records, scan
from retable.runs.columns import Columns, Place
from retable.runs.published_files import parquet_file
from retable.runs.record_set import Found
from retable.runs.records import Record
from retable.tables.grid import Grid, places_of
from retable.tables.looks_spec import declared_in
from retable.tables.select import decide
from retable.util.errors import UserError, brief
from retable.util.progress import Progress

MANY = 1000
"""Runs from which on an index is worth its file; fewer are read in a tenth of a second."""

_NEWS = 200
"""Records that make it worth to write an index again; fewer are read each time."""

_FORGOTTEN = 4
"""An index of so many times more runs than were asked for is cut down to those."""

_NAMED = 3
"""So many runs are named where some are counted."""

Warn = Callable[[str], None]
History = Callable[[Record], Sequence[history_points.Row]]


def from_runs(grid: Grid, warn: Warn) -> Found:
    """Records in the run folders, by key."""
    return of_runs(grid, grid.run_folders(), warn)


def of_runs(grid: Grid, folders: Mapping[str, str], warn: Warn) -> Found:
    """Records of some of a table's runs in their folders, by key.

    Args:
        grid: the planned table.
        folders: by key, the folder that the run's own is in.
        warn: told of every record that is skipped, by name.
    """
    places = places_of(grid)
    if len(folders) < MANY:
        read = {key: records.read_run(Path(base, key), warn) for key, base in folders.items()}
        return found_in(grid, {key: one for key, one in read.items() if one}, folders)
    keys: dict[str, list[str]] = {}
    for key, base in folders.items():
        keys.setdefault(base, []).append(key)
    parts = [_of_folder(grid, base, some, places, warn) for base, some in keys.items()]
    return Found(Columns.joined(parts), folders)


def found_in(grid: Grid, read: Mapping[str, Record], folders: Mapping[str, str]) -> Found:
    """Records that were read from their runs' folders, with all numbers of a table."""
    return Found.of(read, places_of(grid), _history_in(folders))


def history_of_runs(grid: Grid) -> History:
    """The histories of a table's runs, from the run folders."""
    return lambda record: _history_in(grid.run_folders())(record)


def _history_in(folders: Mapping[str, str]) -> History:
    return lambda record: history_points.rows_of_run(Path(folders[record.key], record.key), record)


def _of_folder(
    grid: Grid, base: str, keys: Sequence[str], places: Sequence[Place], warn: Warn
) -> Columns:
    """Very many runs whose folders are in one: from the index, what is not in it from the files."""
    file = index.file_of(Path(base).parent, grid.name, grid.protocol)
    known = index.load(file, places) or Columns.of([], places)
    good, new = index.standing(known, base, keys)
    if not new:
        return good.at(places)
    new = _with_folder(base, new)
    now = index.clock(file) if len(new) >= _NEWS else None
    read = _read(base, new, known.places, warn)  # all that the index has of the others
    if now is not None:
        fresh = read.take(index.settled(read, now))
        if len(fresh.keys) >= _NEWS:
            many = len(known.keys) > _FORGOTTEN * len(keys)
            _save(file, good if many else known, fresh, warn)
    return Columns.joined([good, read]).at(places)


def _with_folder(base: str, keys: list[str]) -> list[str]:
    """Of very many runs those that have a folder, which is all that can have a record."""
    if len(keys) < MANY:
        return keys
    try:
        there = {path.name for path in Path(base).iterdir()}
    except FileNotFoundError:
        return []
    except OSError:
        return keys
    return [key for key in keys if key in there]


def _read(base: str, keys: Sequence[str], places: Sequence[Place], warn: Warn) -> Columns:
    with Progress("reading records", len(keys)) as progress:
        columns = scan.read_all(base, keys, places, progress.at)
    for warning in columns.warnings:
        warn(warning)
    return columns


def _save(file: Path, known: Columns, fresh: Columns, warn: Warn) -> None:
    newer = set(fresh.keys)
    old = [number for number, key in enumerate(known.keys) if key not in newer]
    both = Columns.joined([known.take(np.array(old, dtype=np.int64)), fresh])
    try:
        index.save(file, both)
    except OSError as error:
        warn(f"{file}: cannot be written ({brief(str(error.strerror))}); the next time is as slow")


def from_results(grid: Grid, warn: Warn = lambda _: None) -> Mapping[str, Record]:
    """Records published with the table, by key; empty where there are none.

    Args:
        grid: the planned table.
        warn: told of published runs that the table does not plan any more, in one line.
    """
    path = parquet_file(grid.name, grid.protocol)
    if not path.is_file():
        return {}
    from retable.runs.published_records import read

    wanted = grid.run_folders()
    found: dict[str, Record] = {}
    others: list[Record] = []
    for record in read(path):
        if record.key in wanted:
            found[record.key] = record
        else:
            others.append(record)
    if others:
        warn(_unplanned(grid, others))
    places = places_of(grid)
    if not any(map(history_points.of_history, places)):
        return found
    return Found.of(found, places, history_of_results(grid))


def history_of_results(grid: Grid) -> History:
    """The same from what is published with the table."""
    from retable.runs.published_records import histories

    texts = cache(lambda: histories(parquet_file(grid.name, grid.protocol)))
    return lambda record: json.loads(texts().get(record.key, "[]"))


def artifacts_of_runs(grid: Grid) -> artifacts.ArtifactFile:
    """Where the artefacts of a table's runs are in the run folders."""
    folders = cache(grid.run_folders)

    def place(record: Record, name: str) -> Path:
        attempt = Path(folders()[record.key], record.key, "attempts", str(record.attempt))
        return artifacts.file_of(attempt, name)

    return place


def artifacts_of_results(grid: Grid) -> artifacts.ArtifactFile:
    """Where the artefacts are that were published with a table."""

    def place(record: Record, name: str) -> Path:
        from retable.runs import published_artifacts

        return published_artifacts.file_of(grid.name, grid.protocol, record.key, name)

    return place


def _unplanned(grid: Grid, others: Sequence[Record]) -> str:
    """Message on published runs that are left out: how many, of what kind, and which."""
    settings = [setting for setting, _ in grid.settings()]
    seeds = {r.seed for r in others}
    of_settings = {key for setting in settings for key in setting.keys(seeds)}
    n_seeds = sum(record.key in of_settings for record in others)
    kinds = [(n_seeds, "of further seeds"), (len(others) - n_seeds, "of settings it has not")]
    said = " and ".join(f"{n} {kind}" for n, kind in kinds if n)
    named = ", ".join(record.key[:12] for record in others[:_NAMED])
    more = ", ..." if len(others) > _NAMED else ""
    return (
        f"{grid.name}: the table as it is now leaves out published runs, {said} ({named}{more}),"
        f" protocol {grid.protocol}"
    )


def decided_by_runs(grid: Grid) -> Grid:
    """The table with the choices that the tuning runs in the run folders allow.

    Where looks at it are fixed, with the seeds that they have come to.
    """
    grid = decide(grid, lambda folders: of_runs(grid, folders, lambda _: None))
    return _followed(grid, looks_of(grid), lambda whole: from_runs(whole, lambda _: None))


def decided_by_results(grid: Grid) -> Grid:
    """The same by what is published with the table."""
    from retable.runs.published_records import looks_file

    grid = decide(grid, lambda _: from_results(grid))
    file = looks_file(grid.name, grid.protocol)
    return _followed(grid, file, lambda whole: from_results(whole))


def looks_of(grid: Grid) -> Path | None:
    """File of the looks at a table, beside its runs; None where it has no runs at all."""
    some = next(iter(grid.cells.values()), None)
    if some is None:
        return None
    return Path(some.setting.config.paths.runs) / "_looks" / f"{grid.name}-{grid.protocol}.json"


def _followed(
    grid: Grid, file: Path | None, records_of: Callable[[Grid], Mapping[str, Record]]
) -> Grid:
    if file is None or not file.is_file():
        return grid
    from retable.tables.verdicts import sequential

    if declared_in(grid.spec, grid.protocol) is not None:
        raise UserError(
            f"{grid.name}: looks are declared in the table file and fixed in {file}, which is of"
            " --until-decided; a table has either"
        )
    fixed = sequential.load(file)
    return grid if fixed is None else sequential.followed(grid, fixed, records_of)
