"""From records to cells: mean, standard deviation and n over seeds, and marks beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from retable.records import Record, Status
from retable.tables.grid import CellPlan, Grid
from retable.tables.judged import Judged, JudgedClaim, Tally
from retable.tables.select import is_undecided
from retable.tables.spec import Metric, Reported, TableSpec


@dataclass(frozen=True)
class Cell:
    """One number over seeds and the reported one beside it.

    Attributes:
        values: by seed, in the metric's printed unit.
        n_planned: seeds that the table asks for; 0 where the cell is reported only.
        judged: what the comparison with the reported value says; None until it is made.
        marks: what must be known beside the number, such as ``partial 3/5``.
        run_keys: keys of the runs behind the values.
        lost_keys: keys of the runs that ended otherwise than done.
        n_done: finished runs; more than ``n`` where some gave no value.
        ended: runs that ended otherwise, by how.
        selected: how the setting was chosen, where it was.
    """

    row: str
    column: str
    metric: str
    mean: float | None
    std: float | None
    n: int
    n_planned: int
    values: dict[int, float]
    reported: Reported | None
    judged: Judged | None = None
    marks: list[str] = field(default_factory=list[str])
    run_keys: list[str] = field(default_factory=list[str])
    selected: str | None = None
    n_done: int = 0
    ended: dict[str, int] = field(default_factory=dict[str, int])
    lost_keys: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Table:
    """All of a table: what every output is made from.

    Attributes:
        cells: by (row, column), in the order of the table file.
        records: of the runs behind the cells, by key.
        n_failed: runs that ended otherwise than done.
        lost: records of those runs, by key.
        claims: judged; empty until :func:`retable.tables.judge.judge` is asked.
        tally: verdicts counted; None until then.
        remarks: what has to stand with the table, such as how often it was looked at.
    """

    name: str
    spec: TableSpec
    protocol: str
    cells: dict[tuple[str, str], Cell]
    records: dict[str, Record]
    n_failed: int
    claims: list[JudgedClaim] = field(default_factory=list[JudgedClaim])
    tally: Tally | None = None
    remarks: list[str] = field(default_factory=list[str])
    lost: dict[str, Record] = field(default_factory=dict[str, Record])


def mean_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 1); None where there are too few values."""
    if not values:
        return None, None
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


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


def build(grid: Grid, records: Mapping[str, Record]) -> Table:
    """Cells of a table from the records of its runs, by key."""
    raw = {place: _values(grid, cell, records) for place, cell in grid.cells.items()}
    cells: dict[tuple[str, str], Cell] = {}
    for row in grid.spec.rows:
        for column in grid.spec.columns:
            reported = grid.spec.reported.get(row, {}).get(column)
            plan = grid.cells.get((row, column))
            metric_name = grid.spec.columns[column].metric
            if plan is None:
                if reported is not None:
                    marks = [*_reported_marks(reported), "not run"]
                    cells[row, column] = Cell(
                        row, column, metric_name, None, None, 0, 0, {}, reported, None, marks
                    )
                continue
            metric = grid.spec.metrics[metric_name]
            values = _in_unit(metric, row, column, raw)
            cells[row, column] = _cell(grid, plan, metric_name, values, reported, records)
    used = {key: records[key] for cell in cells.values() for key in cell.run_keys}
    lost = {
        run.key: record
        for run in grid.runs()
        if (record := records.get(run.key)) and record.status is not Status.DONE
    }
    return Table(grid.name, grid.spec, grid.protocol, cells, used, len(lost), lost=lost)


def _values(grid: Grid, cell: CellPlan, records: Mapping[str, Record]) -> dict[int, float]:
    out: dict[int, float] = {}
    for run in grid.cell_runs(cell):
        record = records.get(run.key)
        # Only a finished run fills a cell: a diverged one has numbers that mean nothing.
        if record is None or record.status is not Status.DONE:
            continue
        value = record.value(cell.address.metric, cell.address.result_row, cell.address.step)
        if value is not None and math.isfinite(value):
            out[run.config.seed] = value
    return out


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
    grid: Grid,
    plan: CellPlan,
    metric: str,
    values: dict[int, float],
    reported: Reported | None,
    records: Mapping[str, Record],
) -> Cell:
    runs = grid.cell_runs(plan)
    mean, std = mean_std(list(values.values()))
    found = [records[run.key] for run in runs if run.key in records]
    done = [record for record in found if record.status is Status.DONE]
    n_planned = len(grid.cell_seeds(plan))
    marks: list[str] = []
    marks += _selection_marks(plan, records)
    if len(values) < n_planned:
        marks.append(f"partial {len(values)}/{n_planned}")
    ended: dict[str, int] = {}
    for status in (Status.DIVERGED, Status.FAILED, Status.TIMEOUT):
        count = sum(record.status is status for record in found)
        if count:
            ended[status.value] = count
            marks.append(f"{status.value} {count}/{n_planned}")
    if any(record.fingerprint != plan.setting.fingerprint for record in done):
        marks.append("stale")
    if len({record.device for record in done}) > 1:
        marks.append("mixed devices")
    if reported is not None:
        marks += _reported_marks(reported)
    keys = [run.key for run in runs if run.config.seed in values]
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
        keys,
        plan.selection.text() if plan.selection else None,
        len(done),
        ended,
        [record.key for record in found if record.status is not Status.DONE],
    )


def _selection_marks(plan: CellPlan, records: Mapping[str, Record]) -> list[str]:
    if plan.selection is None:
        return []
    tuning = [records[run.key] for run in plan.selection.runs() if run.key in records]
    marks = ["not selected yet"] if is_undecided(plan) else []
    if any(r.fingerprint != plan.setting.fingerprint for r in tuning if r.status is Status.DONE):
        marks.append("selection stale")
    diverged = sum(r.status is Status.DIVERGED for r in tuning)
    if diverged:
        marks.append(f"diverged {diverged}/{len(plan.selection.runs())} of the tuning runs")
    return marks


def _reported_marks(reported: Reported) -> list[str]:
    return [] if reported.grade == "primary" else [f"unverified ({reported.grade})"]
