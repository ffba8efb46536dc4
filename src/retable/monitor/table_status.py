"""State of a table's runs: its cells joined with a snapshot of those runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from retable.launch.slurm.open_jobs import Queue
from retable.launch.slurm.sacct import Accounting
from retable.monitor import run_progress as epochs
from retable.monitor import run_states
from retable.monitor.run_progress import Epoch
from retable.monitor.run_states import Known, Seen
from retable.monitor.state import OPEN, State
from retable.runs import records
from retable.runs.columns import STATUSES
from retable.runs.frozen import FrozenRun
from retable.runs.record_set import Found
from retable.runs.records import Record, Status
from retable.tables.collect import from_runs
from retable.tables.grid import Grid
from retable.tables.select import is_undecided
from retable.util.errors import UserError

_TELLING = (
    State.RUNNING, State.QUEUED, State.LOST, State.FAILED, State.DIVERGED, State.CANCELLED,
    State.STALE,
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run of a table.

    Attributes:
        key: its key.
        name: for people, without the key.
        setting: with any seed.
        seed: its own.
        metrics: of the table's cells that it fills.
    """

    key: str
    name: str
    setting: FrozenRun
    seed: int
    metrics: tuple[str, ...]

    @property
    def folder(self) -> str:
        """``<paper>/<key>``."""
        return f"{self.setting.config.paper}/{self.key}"

    @property
    def label(self) -> str:
        """Name with the beginning of the key, by which other commands know it."""
        return f"{self.name} ({self.key[:8]})"


def runs_of(grid: Grid) -> dict[str, Run]:
    """Every run of a table once, by key."""
    names: dict[str, str] = {}
    metrics: dict[str, list[str]] = {}
    rows: dict[str, list[str]] = {}
    for cell in grid.cells.values():
        for candidate in cell.selection.candidates if cell.selection else ():
            key = candidate.setting.with_seed(0).key
            names.setdefault(key, f"{candidate.text()}, {cell.column}")
        if not is_undecided(cell):
            key = cell.setting.with_seed(0).key
            metrics.setdefault(key, []).append(cell.address.metric)
            rows.setdefault(key, []).append(f"{cell.row}, {cell.column}")
    for key, places in rows.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        names[key] = f"{places[0]}{more}"
    found: dict[str, Run] = {}
    for setting, seeds in grid.settings():
        zero = setting.with_seed(0).key
        name, own = names.get(zero, setting.config.experiment or ""), metrics.get(zero, [])
        for seed, key in zip(seeds, setting.keys(seeds), strict=True):
            found.setdefault(key, Run(key, f"{name} s{seed}", setting, seed, tuple(own)))
    return found


@dataclass
class TableStatus:
    """State of a table's runs.

    Attributes:
        grid: the planned table.
        runs: its runs, by key.
        seen: each as it was seen.
        queue: of the cluster, as it was looked at for all tables together.
        notes: what could not be asked.
    """

    grid: Grid
    runs: dict[str, Run]
    seen: dict[str, Seen]
    queue: Queue
    notes: list[str] = field(default_factory=list[str])

    @cached_property
    def epochs(self) -> dict[str, Epoch]:
        """Progress of those that are running, by key."""
        return {
            key: epochs.newest(seen.folder, run.setting.config, run.metrics)
            for key, run in self.runs.items()
            if (seen := self.seen[key]).state is State.RUNNING
        }

    def counts(self, keys: Sequence[str] | None = None) -> Counter[State]:
        """Runs by state; of all where no keys are given."""
        return Counter(self.seen[key].state for key in (self.runs if keys is None else keys))

    def in_state(self, *states: State) -> list[Run]:
        """Runs in some states, in the table's order."""
        return [run for key, run in self.runs.items() if self.seen[key].state in states]

    @property
    def goes_on(self) -> bool:
        """Whether anything is queued or running."""
        return any(seen.state in OPEN for seen in self.seen.values())

    def cells(self) -> Iterator[tuple[list[tuple[str, str]], list[str]]]:
        """Cells that show the same runs, and the keys of these."""
        groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for place, cell in self.grid.cells.items():
            keys = self.grid.cell_keys(cell)
            if is_undecided(cell) and cell.selection:
                keys = [run.key for run in cell.selection.runs()]
            groups.setdefault(tuple(keys), []).append(place)
        for keys, places in groups.items():
            yield places, list(keys)

    def telling(self, keys: Sequence[str]) -> str | None:
        """The run that says most about a cell; of those that are running the furthest."""
        found = [key for key in keys if self.seen[key].state in _TELLING]
        return min(
            found,
            key=lambda k: (
                _TELLING.index(self.seen[k].state),
                -self.epochs[k].done if k in self.epochs else 0,
            ),
            default=None,
        )


def survey(
    grids: Sequence[Grid], accounting: Accounting | None, warn: Callable[[str], None]
) -> list[TableStatus]:
    """Look at the runs of some tables, all in one; see :func:`retable.monitor.run_states.look`.

    Args:
        grids: planned tables.
        accounting: remembers what is over from look to look; None: it is not asked.
        warn: told of every record that is skipped, by name.
    """
    cells = [cell for grid in grids for cell in grid.cells.values()]
    if not cells:
        return [TableStatus(grid, {}, {}, Queue([])) for grid in grids]
    tables = [runs_of(grid) for grid in grids]

    def known() -> Known:
        found = [from_runs(grid, warn) for grid in grids]
        states: dict[str, tuple[Status, bool]] = {}
        where: dict[str, tuple[Found, Run]] = {}
        for runs, part in zip(tables, found, strict=True):
            states.update(_states(runs, part))
            where.update({run.folder: (part, run) for run in runs.values()})
        return Known(states, lambda folder: _record(*where[folder]))

    runs_folder = Path(cells[0].setting.config.paths.runs)
    folders = [run.folder for runs in tables for run in runs.values()]
    view = run_states.look(runs_folder, folders, known, accounting)
    return [
        TableStatus(
            grid,
            runs,
            {key: view.runs[run.folder] for key, run in runs.items()},
            view.queue,
            view.notes,
        )
        for grid, runs in zip(grids, tables, strict=True)
    ]


def _states(runs: Mapping[str, Run], found: Found) -> dict[str, tuple[Status, bool]]:
    """Status of the runs that have a record, and whether it is of the present code."""
    columns = found.columns
    numbers = found.numbers(runs).tolist()
    statuses, abouts = columns.statuses.tolist(), columns.about.tolist()
    fingerprints = [about.fingerprint for about in columns.abouts]
    return {
        run.folder: (
            STATUSES[statuses[number]],
            fingerprints[abouts[number]] == run.setting.fingerprint,
        )
        for run, number in zip(runs.values(), numbers, strict=True)
        if number >= 0
    }


def _record(found: Found, run: Run) -> Record | None:
    try:
        return found.get(run.key)
    except UserError:  # it has changed since
        folder = records.run_folder(
            Path(run.setting.config.paths.runs), run.setting.config.paper, run.key
        )
        return records.read_run(folder, lambda _: None)
