"""State of a table's runs: its cells joined with a snapshot of those runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from retable.launch.slurm.open_jobs import Queue
from retable.launch.slurm.sacct import Accounting
from retable.monitor import recorded, run_states
from retable.monitor import run_progress as epochs
from retable.monitor.recorded import Ending
from retable.monitor.run_progress import Epoch
from retable.monitor.run_states import Known, RunStates, Seen
from retable.monitor.state import OPEN, State
from retable.runs import records
from retable.runs.frozen import FrozenRun
from retable.runs.record_set import Found
from retable.runs.records import Record
from retable.tables.asked import unrecorded_names
from retable.tables.collect import from_runs
from retable.tables.grid import Grid
from retable.tables.select import is_undecided
from retable.util.errors import UserError
from retable.util.text import counted, short_key

_TELLING = (
    State.RUNNING, State.QUEUED, State.LOST, State.FAILED, State.DIVERGED, State.CANCELLED,
    State.BLOCKED, State.STALE,
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run of a table.

    Attributes:
        key: its key.
        what: the cells that it fills, or the values that it is tried with, for people.
        setting: with any seed.
        seed: its own.
        metrics: of the table's cells that it fills.
    """

    key: str
    what: str
    setting: FrozenRun
    seed: int
    metrics: tuple[str, ...]

    @property
    def folder(self) -> str:
        """``<paper>/<key>``."""
        return f"{self.setting.config.paper}/{self.key}"

    @property
    def name(self) -> str:
        """Name for people, without the key."""
        return f"{self.what} s{self.seed}"

    @property
    def label(self) -> str:
        """Name with the beginning of the key, by which other commands know it."""
        return f"{self.name} ({short_key(self.key)})"


def runs_of(grid: Grid) -> dict[str, Run]:
    """Every run of a table once, by key."""
    names: dict[str, str] = {}
    metrics: dict[str, list[str]] = {}
    rows: dict[str, list[str]] = {}
    for cell in grid.cells.values():
        for candidate in cell.selection.candidates if cell.selection else ():
            key = candidate.setting.setting_key
            names.setdefault(key, f"{candidate.text()}, {cell.column}")
        if not is_undecided(cell):
            key = cell.setting.setting_key
            metrics.setdefault(key, []).append(cell.address.metric)
            rows.setdefault(key, []).append(f"{cell.row}, {cell.column}")
    for key, places in rows.items():
        more = f" (+ {counted(len(places) - 1, 'cell')})" if len(places) > 1 else ""
        names[key] = f"{places[0]}{more}"
    found: dict[str, Run] = {}
    for setting, seeds in grid.settings():
        zero = setting.setting_key
        name, own = names.get(zero, setting.config.experiment or ""), metrics.get(zero, [])
        for seed, key in zip(seeds, setting.keys(seeds), strict=True):
            found.setdefault(key, Run(key, name, setting, seed, tuple(own)))
    return found


@dataclass
class TableStatus:
    """State of a table's runs.

    Attributes:
        grid: the planned table.
        runs: its runs, by key.
        seen: each as it was seen.
        queue: of the cluster, as it was looked at for all tables together.
        notes: what could not be asked, and what the first finished runs have not recorded.
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


def statuses_of(
    grids: Sequence[Grid], accounting: Accounting | None, warn: Callable[[str], None]
) -> list[TableStatus]:
    """See how the runs of some tables are doing, all in one look; see :func:`run_states.states_of`.

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
        endings: dict[str, Ending] = {}
        where: dict[str, tuple[Found, Run]] = {}
        for grid, runs, part in zip(grids, tables, found, strict=True):
            ended = recorded.endings(grid, part)
            endings.update({runs[key].folder: ending for key, ending in ended.items()})
            where.update({run.folder: (part, run) for run in runs.values()})
        return Known(endings, lambda folder: _record(*where[folder]))

    runs_folder = Path(cells[0].setting.config.paths.runs)
    folders = [run.folder for runs in tables for run in runs.values()]
    view = run_states.states_of(runs_folder, folders, known, accounting)
    return [
        _status(grid, {key: view.runs[run.folder] for key, run in runs.items()}, runs, view)
        for grid, runs in zip(grids, tables, strict=True)
    ]


def _status(
    grid: Grid, seen: dict[str, Seen], runs: dict[str, Run], view: RunStates
) -> TableStatus:
    missing = unrecorded_names(grid, lambda key: seen[key].state is State.DONE)
    return TableStatus(grid, runs, _with_blocked(grid, seen), view.queue, [*view.notes, *missing])


def _with_blocked(grid: Grid, seen: dict[str, Seen]) -> dict[str, Seen]:
    changed = recorded.blocked(grid, {key: one.state for key, one in seen.items()})
    for key, state in changed.items():
        why = "what it starts from has not ended well" if state is State.BLOCKED else ""
        seen[key] = replace(seen[key], state=state, why=why)
    return seen


def _record(found: Found, run: Run) -> Record | None:
    try:
        return found.get(run.key)
    except UserError:  # it has changed since
        folder = records.run_folder(
            Path(run.setting.config.paths.runs), run.setting.config.paper, run.key
        )
        return records.read_run(folder, lambda _: None)
