"""What tables ask of the runs of a launch: the first that has finished shows a name that is wrong.

Without it a night of runs is spent before anybody looks at the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from retable.runs import history_points, records
from retable.runs.frozen import FrozenRun
from retable.runs.records import Record, Status
from retable.tables.grid import CellPlan, Grid
from retable.tables.select import is_undecided
from retable.util.errors import nearest
from retable.util.text import counted

_LOOKED_AT = 3
"""Finished runs whose records are looked at for a name, where somebody only asks how runs are."""


class _Name(NamedTuple):
    """A name of a table file that has to be in records: a metric's key, or what a choice goes by.

    Attributes:
        table: that it stands in.
        key: where in its file.
        metric: the name.
        in_history: whether it has to be in the history of the run.
    """

    table: str
    key: str
    metric: str
    in_history: bool = False


class _Wanted(NamedTuple):
    """Runs that are asked for a name.

    Attributes:
        cell: in words.
        setting: with some seed.
        seeds: of the runs.
    """

    cell: str
    setting: FrozenRun
    seeds: Sequence[int]


class Asked:
    """The metrics that tables ask of their runs, judged by the runs as they finish.

    A name is wrong where the first finished run that is asked for it has not recorded it, and none
    before has. A metric that a method records now and then is not: who runs the table again, having
    been told, gets all of its runs.
    """

    def __init__(self, grids: Sequence[Grid]) -> None:
        self._begin = datetime.now(UTC).isoformat(timespec="seconds")
        self._wanted: dict[_Name, list[_Wanted]] = {}
        self._names: dict[str, dict[_Name, None]] = {}
        self._wrong: set[_Name] = set()
        for grid in grids:
            for cell in grid.cells.values():
                for name, wanted in _asked(grid, cell):
                    self._wanted.setdefault(name, []).append(wanted)
                    self._names.setdefault(wanted.setting.setting_key, {})[name] = None
        self._open = set(self._wanted)

    def told(self, run: FrozenRun) -> list[str]:
        """What the record of a run that has finished says of the names, each name once."""
        names = [name for name in self._of(run) if name in self._open] if self._open else []
        record = records.read_run(run.folder, lambda _: None) if names else None
        if record is None or record.status is not Status.DONE:
            return []
        said: list[str] = []
        for name in names:
            self._open.discard(name)
            known = _recorded(name, run.folder, record)
            if name.metric in known:
                continue
            others = [(at, one) for at, one in self._finished(name) if at != run.folder]
            if any(name.metric in _recorded(name, folder, other) for folder, other in others):
                continue
            again = any(other.started < self._begin for _, other in others)
            if not again:
                self._wrong.add(name)
            where = next(w for w in self._wanted[name] if w.setting.setting_key == run.setting_key)
            said.append(
                f"{name.table}: {name.key}: '{name.metric}' is not in the record of the first run"
                f" that has finished ({where.cell})"
                f"{nearest(name.metric, known)}"
                f"{' It was told before, so that the others are started.' if again else ''}"
            )
        return said

    def is_in_vain(self, run: FrozenRun) -> bool:
        """Whether a run is asked for nothing but what runs do not record."""
        names = self._of(run) if self._wrong else ()
        return bool(names) and self._wrong.issuperset(names)

    def is_for_nothing(self, run: FrozenRun, others: Iterable[FrozenRun]) -> bool:
        """Whether a run is only started from, by runs that are all in vain.

        Args:
            run: that may be started.
            others: that are still to be started.
        """
        if not self._wrong or self._of(run):
            return False
        behind = [one for one in others if self._of(one) and run.key in {r.key for r in one.chain}]
        return bool(behind) and all(map(self.is_in_vain, behind))

    def _of(self, run: FrozenRun) -> Collection[_Name]:
        return self._names.get(run.setting_key, ())

    def _finished(self, name: _Name) -> Iterator[tuple[Path, Record]]:
        """Folder and record of every finished run that is asked for a name."""
        for wanted in self._wanted[name]:
            for key in wanted.setting.keys(wanted.seeds):
                folder = wanted.setting.folder.with_name(key)
                record = records.read_run(folder, lambda _: None) if folder.is_dir() else None
                if record is not None and record.status is Status.DONE:
                    yield folder, record


def unrecorded_names(grid: Grid, is_done: Callable[[str], bool]) -> list[str]:
    """Names that the first finished runs asked for them have not recorded, in a line each.

    Args:
        grid: the planned table.
        is_done: whether the run with a key has finished.
    """
    wanted: dict[_Name, list[_Wanted]] = {}
    for cell in grid.cells.values():
        for name, one in _asked(grid, cell):
            wanted.setdefault(name, []).append(one)
    said: list[str] = []
    for name, each in wanted.items():
        folders = (
            one.setting.folder.with_name(key)
            for one in each
            for key in one.setting.keys(one.seeds)
            if is_done(key)
        )
        looked, known = 0, set[str]()
        for folder in islice(folders, _LOOKED_AT):
            if (record := records.read_run(folder, lambda _: None)) is not None:
                looked, known = looked + 1, known | _recorded(name, folder, record)
        if looked and name.metric not in known:
            said.append(
                f"{name.table}: {name.key}: '{name.metric}' is in none of the"
                f" {counted(looked, 'finished run')} looked at{nearest(name.metric, known)}"
            )
    return said


def _asked(grid: Grid, cell: CellPlan) -> Iterator[tuple[_Name, _Wanted]]:
    where = f"row {cell.row}, column {cell.column}"
    if (chosen := cell.selection) is not None:
        for candidate in chosen.candidates:
            name = _Name(grid.name, "select.by", chosen.by)
            yield name, _Wanted(where, candidate.setting, chosen.seeds)
    if not is_undecided(cell):
        metric, address = grid.spec.columns[cell.column].metric, cell.address
        if grid.spec.metrics[metric].absent is not None:
            return
        name = _Name(grid.name, f"metrics.{metric}.key", address.metric, address.epoch is not None)
        yield name, _Wanted(where, cell.setting, grid.cell_seeds(cell))


def _recorded(name: _Name, folder: Path, record: Record) -> set[str]:
    """Names of what a run has recorded, where such a name is looked for."""
    if name.key == "select.by":
        return set(record.validation)
    if name.in_history:
        return {n for row in history_points.rows_of_run(folder, record) for n in row} - {"epoch"}
    return {result.metric for result in record.results} | record.validation.keys()
