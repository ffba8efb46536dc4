"""View of some tables: states, numbers, what is running and since when."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retable.launch.slurm.sacct import Accounting
from retable.monitor import recorded
from retable.monitor.curves import Curve, Curves
from retable.monitor.run_states import Seen
from retable.monitor.state import State
from retable.monitor.table_status import Run, TableStatus, statuses_of
from retable.runs import records
from retable.runs.record_set import Found
from retable.runs.records import Record, RecordError
from retable.tables import collect
from retable.tables.aggregate import Table, build
from retable.tables.grid import Grid
from retable.tables.results import CellId
from retable.tables.select import is_undecided
from retable.util import eta
from retable.util.eta import Span

_OPENED = (State.QUEUED, State.TODO)
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Going:
    """A run that is being done: how far it is, and seconds since it began; 0 while it starts."""

    run: Run
    seen: Seen
    curve: Curve
    spent: float


@dataclass(frozen=True)
class View:
    """A table as it is shown.

    Attributes:
        status: states of its runs.
        table: its cells, from the records that there are.
        counts: runs by state of every cell that is run; of one whose setting is not chosen yet, of
            the runs to choose by.
        going: runs that are being done, in the table's order.
        elapsed: seconds of the sweep that goes on, or of the last one; None where nothing ran.
        left: seconds that are expected yet; None where nothing tells or nothing runs.
    """

    status: TableStatus
    table: Table
    counts: dict[CellId, Counter[State]]
    going: list[Going]
    elapsed: float | None
    left: float | None


@dataclass
class _Snapshot:
    """Snapshot of a table at a look, from which the views until the next look are made."""

    status: TableStatus
    table: Table
    counts: dict[CellId, Counter[State]]
    spans: list[Span]
    took: dict[str, list[float]]
    waiting: Counter[str]


class Watcher:
    """Looks at tables again and again.

    Attributes:
        warnings: of records that were skipped, each once.
    """

    def __init__(self, grids: Sequence[Grid], clock: Callable[[], float] = time.time) -> None:
        """Tables as planned, and the clock that files are stamped by."""
        self.warnings: dict[str, None] = {}
        self._grids = list(grids)
        self._clock = clock
        self._accounting = Accounting()
        self._reader = _Reader(self._warn)
        self._curves = Curves()
        self._snapshots: list[_Snapshot] = []

    def update(self) -> None:
        """Look at files and queue; at most one call of squeue and one of sacct.

        Raises:
            UserError: where the controller does not answer, or a file is broken.
        """
        self._grids = [_replanned(grid) for grid in self._grids]
        tables = statuses_of(self._grids, self._accounting, self._warn)
        self._snapshots = [self._of(status) for status in tables]

    @property
    def goes_on(self) -> bool:
        """Whether anything was queued or running."""
        return any(snapshot.status.goes_on for snapshot in self._snapshots)

    @property
    def asks(self) -> bool:
        """Whether a look asks a cluster."""
        return any(snapshot.status.queue.submissions for snapshot in self._snapshots)

    @property
    def unfinished(self) -> bool:
        """Whether runs are left that a launch would do and none has failed to do."""
        return any(snapshot.status.in_state(State.TODO) for snapshot in self._snapshots)

    @property
    def notes(self) -> list[str]:
        """Notes on what could not be read or asked."""
        asked = [note for snapshot in self._snapshots for note in snapshot.status.notes]
        return [*self.warnings, *dict.fromkeys(asked)]

    def views(self) -> list[View]:
        """The tables as the last look has found them, with curves and times as they are now."""
        now = self._clock()
        found = [self._view(snapshot, now) for snapshot in self._snapshots]
        self._curves.keep([going.seen.folder for view in found for going in view.going])
        return found

    def _warn(self, text: str) -> None:
        self.warnings[text] = None

    def _of(self, status: TableStatus) -> _Snapshot:
        grid = status.grid
        records_, spans = self._reader.of(grid)
        took = recorded.seconds(grid, records_)
        waiting = Counter(run.setting.setting_key for run in status.in_state(*_OPENED))
        counts = {
            place: count
            for places, keys in status.cells()
            for count in (status.counts(keys),)
            for place in places
        }
        return _Snapshot(status, build(grid, records_), counts, spans, took, waiting)

    def _view(self, snapshot: _Snapshot, now: float) -> View:
        status = snapshot.status
        going = [
            self._going(run, status.seen[run.key], now) for run in status.in_state(State.RUNNING)
        ]
        spans = [*snapshot.spans, *((now - one.spent, now) for one in going if one.spent)]
        span = eta.since(spans)
        parts = [_part(one) for one in going]
        rest = eta.left(snapshot.took, snapshot.waiting, len(going), parts)
        elapsed = span and span[1] - span[0]
        return View(status, snapshot.table, snapshot.counts, going, elapsed, rest)

    def _going(self, run: Run, seen: Seen, now: float) -> Going:
        curve = self._curves.of(seen.folder, run.setting.config, run.metrics)
        return Going(run, seen, curve, max(now - _begin(seen.folder, now), 0.0))


def _part(going: Going) -> eta.Going:
    curve = going.curve
    done = curve.done / curve.of if curve.of else 0.0
    return eta.Going(going.run.setting.setting_key, min(done, 1.0), going.spent)


def _begin(folder: Path, now: float) -> float:
    """When a run's newest attempt began: its folder is what changed the one that it is in."""
    try:
        return os.stat(folder / "attempts").st_mtime  # noqa: PTH116
    except OSError:
        return now


def _replanned(grid: Grid) -> Grid:
    """With the choices that can be made by now, and the seeds that a next look needs."""
    looks = collect.looks_of(grid)
    if any(is_undecided(cell) for cell in grid.cells.values()) or (looks and looks.is_file()):
        grid = collect.decided_by_runs(grid)
    if grid.course is not None:
        grid = replace(grid, n_seeds={**grid.n_seeds, **grid.course.needed})
    return grid


class _Reader:
    """Records of a table's finished runs, read again only where their file has changed."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._known: dict[str, tuple[_Stamp, Record | None]] = {}

    def of(self, grid: Grid) -> tuple[Found, list[Span]]:
        """The records, and when their runs went on."""
        folders = grid.run_folders()
        if len(folders) >= collect.MANY:  # they have an index
            found = collect.from_runs(grid, self._warn)
            stamps, wall = found.columns.stamps[:, 1].tolist(), found.columns.wall_s.tolist()
            ends = [(stamp / 1e9, s) for stamp, s in zip(stamps, wall, strict=True) if stamp]
            return found, [(end - s, end) for end, s in ends]
        read: dict[str, Record] = {}
        spans: list[Span] = []
        for key, base in folders.items():
            known = self._read(key, f"{base}/{key}/{records.RUN_RECORD}")
            if known is not None and known[1] is not None:
                read[key] = known[1]
                end = known[0][1] / 1e9
                spans.append((end - known[1].wall_s, end))
        return collect.found_in(grid, read, folders), spans

    def _read(self, key: str, file: str) -> tuple[_Stamp, Record | None] | None:
        try:
            stat = os.stat(file)  # noqa: PTH116
        except OSError:
            return None
        stamp = stat.st_ino, stat.st_mtime_ns, stat.st_size
        known = self._known.get(key)
        if known is None or known[0] != stamp:
            try:
                record = records.read(Path(file))
            except RecordError:  # as for every other reader, an attempt's may speak for it
                record = records.read_run(Path(file).parent, self._warn)
            known = self._known[key] = stamp, record
        return known
