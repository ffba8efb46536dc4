"""From records to cells: mean, standard deviation and n over seeds, and marks beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from retable.runs.artifacts import ArtifactFile
from retable.runs.columns import Ints
from retable.runs.frozen import FrozenRun
from retable.runs.record_set import Circumstances, Found, Mask
from retable.runs.records import Record, Status
from retable.tables.at_looks import last_taken
from retable.tables.cells import Cell, mean_std, reported_marks
from retable.tables.grid import CellPlan, Grid, places_of
from retable.tables.over_columns import Runs, with_columns_over_others
from retable.tables.results import CellId, JudgedClaim, Tally
from retable.tables.select import is_undecided
from retable.tables.spec import Metric, Reported, TableSpec
from retable.tables.verdicts.course import Course
from retable.util.text import counted


@dataclass(frozen=True)
class Table:
    """All of a table: what every output is made from.

    Attributes:
        name: ``paper/table``.
        spec: the table file.
        protocol: that was run.
        cells: by (row, column), in the order of the table file.
        records: of the runs behind the cells, by key.
        n_failed: runs that ended otherwise than done.
        lost: records of those runs, by key.
        tuning: records of the runs that settings were chosen by, by key.
        parents: records of the runs that fill no cell and that others start from, by key.
        artifact_file: gives the files of the artefacts that its runs have left; None where nobody
            has said where they are.
        claims: judged; empty until :func:`retable.tables.verdicts.judge.judge` is asked.
        tally: verdicts counted; None until then.
        course: how far it is, where it is run until it is decided.
        at_looks: cells with the seeds of each look that the table file declares; empty where of
            none. ``cells`` are those of the last look that is taken, cell by cell.
        remarks: what has to stand with the table, such as how often it was looked at.
    """

    name: str
    spec: TableSpec
    protocol: str
    cells: dict[tuple[str, str], Cell]
    records: Mapping[str, Record]
    n_failed: int
    claims: list[JudgedClaim] = field(default_factory=list[JudgedClaim])
    tally: Tally | None = None
    course: Course | None = None
    at_looks: Sequence[Mapping[CellId, Cell]] = field(default=(), repr=False)
    remarks: list[str] = field(default_factory=list[str])
    lost: Mapping[str, Record] = field(default_factory=dict[str, Record])
    tuning: Mapping[str, Record] = field(default_factory=dict[str, Record], repr=False)
    parents: Mapping[str, Record] = field(default_factory=dict[str, Record], repr=False)
    artifact_file: ArtifactFile | None = field(default=None, compare=False, repr=False)

    @property
    def looked_at_once(self) -> bool:
        """Whether its verdicts have all of the 5 %, and share it with no other look."""
        return self.course is None and not self.at_looks


def relative(values: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Values whose mean is mean(values) / mean(reference), over the seeds that both have.

    Each is the ratio R plus its seed's residual (x - R y) / mean(y): the linearisation that the
    delta method uses, so that their standard error is that of the ratio of means.
    """
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return {}
    x = np.array([values[s] for s in seeds])
    y = np.array([reference[s] for s in seeds])
    if y.mean() == 0:
        return {}
    ratio = x.mean() / y.mean()
    return dict(zip(seeds, (ratio + (x - ratio * y) / y.mean()).tolist(), strict=True))


def build(
    grid: Grid, records: Mapping[str, Record], artifact_file: ArtifactFile | None = None
) -> Table:
    """Cells of a table from the records of its runs.

    Args:
        grid: the planned table.
        records: by key.
        artifact_file: where the artefacts of these runs are, for a figure that is drawn from them.
    """
    found = Found.of(records, places_of(grid))
    at_looks = [_cells(one, found) for one in grid.at_looks()]
    cells = last_taken(grid.spec, at_looks) if at_looks else _cells(grid, found)
    used = found.only(found.numbers(key for cell in cells.values() for key in cell.run_keys))
    if at_looks:  # from here on of no look that is not taken
        grid = replace(grid, n_seeds={place: cells[place].n_asked for place in grid.cells})
    lost = found.lost(np.arange(len(found)))
    if len(lost):  # of those that are the table's
        lost = found.lost(found.numbers(grid.run_folders()))
    tuning = _tuning(grid, found)
    return Table(
        grid.name,
        grid.spec,
        grid.protocol,
        cells,
        used,
        len(lost),
        course=grid.course,
        at_looks=at_looks,
        lost=found.only(lost),
        tuning=tuning,
        parents=_parents(grid, found, tuning),
        artifact_file=artifact_file,
    )


def _tuning(grid: Grid, found: Found) -> Found:
    """Records of the tuning runs that have come to a result; one that diverged had its say."""
    chosen = [cell.selection for cell in grid.cells.values() if cell.selection is not None]
    numbers = found.numbers(dict.fromkeys(key for one in chosen for key in one.run_folders()))
    ended = found.done(numbers) | found.status_is(numbers, Status.DIVERGED)
    return found.only(numbers[ended])


def _parents(grid: Grid, found: Found, tuning: Found) -> Found:
    """Records of the done runs that others start from, unless settings were chosen by them."""
    keys = [key for some in grid.only_started_from().values() for key in some if key not in tuning]
    numbers = found.numbers(keys)
    return found.only(numbers[found.done(numbers)])


def _cells(grid: Grid, found: Found) -> dict[CellId, Cell]:
    behind = {place: _behind(grid, cell, found) for place, cell in grid.cells.items()}
    raw = {place: cell.values() for place, cell in behind.items()}
    cells: dict[CellId, Cell] = {}
    for row in grid.spec.rows:
        for column in grid.spec.columns:
            reported = grid.spec.reported.get(row, {}).get(column)
            plan = grid.cells.get((row, column))
            metric_name = grid.spec.columns[column].metric
            if plan is None:
                if reported is not None:
                    marks = [*reported_marks(reported), "not run"]
                    cells[row, column] = Cell(
                        row, column, metric_name, None, None, 0, 0, {}, reported, None, marks
                    )
                continue
            metric = grid.spec.metrics[metric_name]
            values = _in_unit(metric, row, column, raw)
            below = behind.get((metric.relative_to or "", column))
            cell = _cell(
                plan,
                metric_name,
                metric.absent,
                len(grid.cell_seeds(plan)),
                values,
                reported,
                found,
                [behind[row, column], *([] if below is None else [below])],
                timed=grid.spec.timing == "alone",
            )
            if metric.relative_to is not None:
                cell = replace(cell, raw=raw[row, column])
            cells[row, column] = cell
    runs = {place: cell.runs() for place, cell in behind.items()}
    return with_columns_over_others(grid, cells, Runs(found, runs))


def provenance_of(table: Table) -> Circumstances:
    """Where the records behind a table come from, without reading them one by one.

    Those behind its cells, the tuning runs that their settings were chosen by, and what either
    start from.
    """
    about = Found.of(table.records).circumstances()
    for others in (table.tuning, table.parents):
        about = about.joined(Found.of(others).circumstances()) if others else about
    return about


@dataclass(frozen=True)
class _Behind:
    """Runs behind a cell; ``numbers`` are their positions in what was found, -1 for none."""

    setting: FrozenRun
    keys: list[str]
    seeds: list[int]
    numbers: Ints
    raw: list[float]

    def values(self) -> dict[int, float]:
        """Numbers as they were recorded, by seed."""
        pairs = zip(self.seeds, self.raw, strict=True)
        return {seed: value for seed, value in pairs if math.isfinite(value)}

    def stale(self, found: Found) -> Mask:
        """Which of them the present code might not give."""
        return found.stale(self.setting, self.seeds, self.numbers)

    def where(self, mask: Mask) -> set[int]:
        """Seeds at which a mask over the runs is true."""
        return {seed for seed, yes in zip(self.seeds, mask.tolist(), strict=True) if yes}

    def runs(self) -> dict[int, int]:
        """Positions by seed."""
        return dict(zip(self.seeds, self.numbers.tolist(), strict=True))


def _behind(grid: Grid, cell: CellPlan, found: Found) -> _Behind:
    keys = grid.cell_keys(cell)
    numbers = found.numbers(keys)
    # Only a finished run fills a cell: a diverged one has numbers that mean nothing.
    raw = found.at(numbers, cell.address.place).tolist()
    return _Behind(cell.setting, keys, grid.cell_seeds(cell)[: len(keys)], numbers, raw)


def _in_unit(
    metric: Metric,
    row: str,
    column: str,
    raw: Mapping[tuple[str, str], dict[int, float]],
) -> dict[int, float]:
    values = raw[row, column]
    if metric.relative_to is not None:
        values = relative(values, raw.get((metric.relative_to, column), {}))
    factor = 100.0 if metric.unit == "%" else 1.0
    return {seed: factor * value for seed, value in values.items()}


def _cell(
    plan: CellPlan,
    metric: str,
    absent: str | None,
    n_planned: int,
    values: dict[int, float],
    reported: Reported | None,
    found: Found,
    sources: Sequence[_Behind],
    *,
    timed: bool,
) -> Cell:
    """The cell of some values.

    Args:
        plan: what runs it shows.
        metric: its name.
        absent: what a finished run without a number means, where it may.
        n_planned: seeds that are asked for.
        values: by seed, in the printed unit.
        reported: the paper's number.
        found: all records.
        sources: the runs behind it; of a number that is relative to another row, that row's too.
        timed: whether its runs are to be done alone.
    """
    behind, numbers = sources[0], sources[0].numbers
    done = numbers[found.done(numbers)]
    finished = set[int].intersection(*(one.where(found.done(one.numbers)) for one in sources))
    mean, std = mean_std(list(values.values()))
    marks: list[str] = []
    marks += _selection_marks(plan, found)
    n_absent = len(done) - len(behind.values()) if absent else 0
    if n_absent:
        n_planned -= n_absent
        marks.append(f"{n_absent} of {counted(len(done), 'finished run')}: {absent}")
    if len(values) < n_planned:
        marks.append(f"partial {len(values)}/{n_planned}")
    if len(done) > n_absent and not behind.values():
        marks.append("not recorded")
    ended: dict[str, int] = {}
    for status in (Status.DIVERGED, Status.FAILED, Status.TIMEOUT):
        masks = [(one, found.status_is(one.numbers, status)) for one in sources]
        count = len(set[int].union(*(one.where(mask) for one, mask in masks)))
        if count:
            ended[status.value] = count
            marks.append(f"{status.value} {count}/{n_planned}")
    every = np.concatenate([one.numbers[found.done(one.numbers)] for one in sources])
    abouts = found.abouts(every)
    old = np.concatenate([one.stale(found)[found.done(one.numbers)] for one in sources])
    if old.any():
        marks.append("stale" if old.all() else "partly stale")
    if len({about.device for about in abouts}) > 1:
        marks.append("mixed devices")
    if any(about.pulled for about in abouts):
        marks.append("pulled")
    if timed and not all(about.alone for about in abouts):
        marks.append("not alone")
    if timed and any(about.begun for about in abouts):
        marks.append("begun elsewhere")
    if reported is not None:
        marks += reported_marks(reported)
    return Cell(
        plan.row,
        plan.column,
        metric,
        mean,
        std,
        len(values),
        n_planned,
        values,
        reported,
        None,
        marks,
        [key for key, seed in zip(behind.keys, behind.seeds, strict=True) if seed in values],
        plan.selection.text() if plan.selection else None,
        max(len(finished) - n_absent, 0),
        ended,
        n_absent,
        [found.columns.keys[number] for number in found.lost(numbers)],
        selection=plan.selection,
    )


def _selection_marks(plan: CellPlan, found: Found) -> list[str]:
    if plan.selection is None:
        return []
    tuning = list(plan.selection.run_folders())
    numbers = found.numbers(tuning)
    marks = ["not selected yet"] if is_undecided(plan) else []
    seeds = plan.selection.seeds
    settings = [candidate.setting for candidate in plan.selection.candidates]
    if any(
        (found.stale(s, seeds) & found.done(found.numbers(s.keys(seeds)))).any() for s in settings
    ):
        marks.append("selection stale")
    diverged = int(found.status_is(numbers, Status.DIVERGED).sum())
    if diverged:
        marks.append(f"diverged {diverged}/{len(tuning)} of the tuning runs")
    return marks
