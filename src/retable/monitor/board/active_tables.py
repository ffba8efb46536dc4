"""Which tables something goes on in, where nobody has named one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from retable.launch.slurm.sacct import Accounting
from retable.monitor import overview
from retable.monitor.state import OPEN
from retable.runs import frozen
from retable.tables import collect, spec
from retable.tables.grid import Grid, plan
from retable.util import paths
from retable.util.errors import UserError


class NoTable(UserError):
    """The runs that go on belong to no table: they are a sweep of an experiment."""


READ = 50
"""Runs whose configs are read at most, to find the tables that they belong to."""


def tables(runs: Path, protocol: str | None) -> list[Grid]:
    """Tables with a run that is queued or running; else the one whose run was touched last.

    Args:
        runs: folder of all runs.
        protocol: only of this one; None: of any.

    Raises:
        NoTable: where runs go on that no table has.
        UserError: where there is nothing, which says what to do.
    """
    found = overview.overview_of(runs, Accounting())
    going = [local.folder for local in found.local]
    for submitted in found.submitted:
        going += [seen.folder for seen in submitted.seen if submitted.open and seen.state in OPEN]
    grids = _of(going, protocol)
    if grids:
        return grids
    if going:
        raise NoTable("what goes on belongs to no table: retable status shows it")
    newest = max(paths.run_folders(runs), key=_touched, default=None)
    grids = _of([newest], protocol) if newest else []
    if not grids:
        raise UserError(f"no run of a table below {runs}: name a table, such as retable list shows")
    return grids[:1]


def _touched(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _of(folders: Sequence[Path], protocol: str | None) -> list[Grid]:
    """Tables that some runs belong to."""
    found: list[Grid] = []
    planned: dict[tuple[str, str], Grid] = {}
    known: set[str] = set()
    read = 0
    for folder in folders:
        if folder.name in known or read == READ:
            continue
        read += 1
        with suppress(UserError):  # what cannot be read or planned is said by who is asked for it
            config = frozen.read(folder).config
            for place in _candidates(config.paper, config.experiment or "", protocol):
                if place not in planned:
                    planned[place] = collect.decided_by_runs(plan(*place))
                keys = planned[place].run_folders()
                if folder.name in keys and planned[place] not in found:
                    found.append(planned[place])
                    known |= keys.keys()
    return found


def _candidates(paper: str, experiment: str, protocol: str | None) -> Iterator[tuple[str, str]]:
    """Tables of a paper, with the protocols under which they have an experiment."""
    for name in paths.config_names("table"):
        if not name.startswith(f"{paper}/"):
            continue
        table = spec.load(name)
        for known in table.protocols():
            if protocol in (None, known) and any(
                table.experiment(column, known, row) == experiment
                for column in table.columns
                for row in (None, *table.rows)
            ):
                yield name, known
