"""Runs by a name of the command line: those of a table, a paper or an experiment, or one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from retable.cli import workflow
from retable.cli.options import warn
from retable.util import paths
from retable.util.errors import UserError, brief, nearest

if TYPE_CHECKING:
    from retable.runs.frozen import FrozenRun
    from retable.runs.records import Record

Runs = tuple[list["FrozenRun"], Callable[["FrozenRun"], str]]


def is_of_tables(name: str) -> bool:
    """Whether a name stands for a table, or for a paper that has tables."""
    tables = paths.config_names("table")
    return name in tables or any(table.startswith(f"{name}/") for table in tables)


def runs_named(
    name: str, protocol: str | None, row: list[str] | None, column: list[str] | None
) -> Runs:
    """Runs that a name stands for, frozen for the present code, and what they are called."""
    tables, experiments = paths.config_names("table"), paths.config_names("experiment")
    part = bool(protocol or row or column)
    if name in tables or (part and any(t.startswith(f"{name}/") for t in tables)):
        return _of_tables(name, protocol, row, column)
    for option, given in (("--protocol", protocol), ("--row", row), ("--column", column)):
        if given:
            raise UserError(f"{option}: belongs to a table, and '{brief(name)}' is none")
    if name in experiments:
        from retable.tables.summarize import collect

        found, _ = collect(name, paths.runs_folder(), warn)
        return _all_present(found), lambda run: run.label
    if name in {named.partition("/")[0] for named in (*tables, *experiments)}:
        return _of_paper(name, any(table.startswith(f"{name}/") for table in tables))
    return _of_run(name, [*tables, *(t.partition("/")[0] for t in tables), *experiments])


def _of_tables(
    name: str, protocol: str | None, row: list[str] | None, column: list[str] | None
) -> Runs:
    from retable.monitor.table_status import runs_of
    from retable.tables import grid, spec
    from retable.util.progress import Progress

    known = {p: None for n in grid.expand_names(name) for p in spec.load(n).protocols()}
    wanted = list(known) if protocol is None else [protocol]
    with Progress(f"{name}: planned protocols", len(wanted)) as progress:
        grids: list[Any] = []
        for number, p in enumerate(wanted):
            progress.at(number)
            grids += workflow.plan(name, p, rows=row, columns=column)
    names = {key: run.name for found in grids for key, run in runs_of(found).items()}
    runs = {run.key: run for found in grids for run in found.runs()}
    return list(runs.values()), lambda run: names.get(run.key, run.label)


def _of_paper(name: str, has_tables: bool) -> Runs:
    """All runs of a paper: those of its tables, and what else has a record here."""
    from retable.runs import records

    runs, label = _of_tables(name, None, None, None) if has_tables else ([], lambda run: run.label)
    known = {run.key for run in runs}
    others = (
        records.read_run(folder, warn)
        for folder in paths.run_folders(paths.runs_folder())
        if folder.parent.name == name and folder.name not in known
    )
    return [*runs, *_all_present(record for record in others if record is not None)], label


def _of_run(name: str, names: list[str]) -> Runs:
    from retable.runs.lookup import NotARunError, find

    try:
        found = find(name)
    except NotARunError:
        hint = nearest(name, names) or "; a run is its folder, or 4 or more characters of its key"
        raise UserError(f"no table, paper, experiment or run '{brief(name)}'{hint}") from None
    if found.folder is None:
        raise UserError(
            f"run {found.record.key[:12]}: is published only; bring it here first:"
            f" retable restore {found.record.paper}"
        )
    run = _present(found.record, found.folder.parents[1].absolute().as_posix())
    return [run], lambda _: found.label


def _all_present(found: Iterable[Record]) -> list[FrozenRun]:
    """Recorded runs frozen for the present code; says which it does not know any more."""
    runs: list[FrozenRun] = []
    for record in found:
        try:
            runs.append(_present(record))
        except UserError as error:
            warn(f"run {record.key[:12]} stays as it is: the present code refuses it: {error}")
    return runs


def _present(record: Record, home: str | None = None) -> FrozenRun:
    """A recorded run frozen for the present code, with the config that is in its folder."""
    from pathlib import Path

    from retable.runs import frozen
    from retable.runs.lookup import refreeze

    folder = Path(home) if home else paths.runs_folder().absolute()
    run = refreeze(record, folder)
    try:
        kept = frozen.read(run.folder).config
    except UserError:
        return run
    # Of where it was launched, such as its logger, only the folder of all runs has to be this one.
    ran_in = kept.paths.model_copy(update={"runs": str(folder)})
    return replace(run, config=kept.model_copy(update={"paths": ran_in}))
