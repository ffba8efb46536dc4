"""Cells made of a row's numbers in other columns, seed by seed, so that they are like any cell.

With M_k a row's number in column k of K, B_k the base's, and d_k = 1 where larger is better:

- ``relative_change``: the mean over k of 100 (-1)^d_k (M_k - B_k) / B_k, known as Delta_m
  (Maninis et al., CVPR 2019, with the other sign; as here in Liu et al., NeurIPS 2021)
- ``relative_spread``: the standard deviation (ddof 0) over k of the same K changes
- ``mean_rank``: the mean over k of the row's rank among all rows, 1 the best; equal numbers share
  the mean of their ranks

B_k of a row is its mean over its seeds, one constant for all seeds of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retable.runs.record_set import Found
from retable.runs.records import Status
from retable.tables.cells import Cell, mean_std, reported_marks
from retable.tables.over_columns_spec import behind, ranked
from retable.tables.results import CellId
from retable.tables.spec import Metric, TableSpec

if TYPE_CHECKING:
    from retable.tables.grid import Grid

Cells = Mapping[CellId, Cell]
Shares = dict[int, dict[str, float]]
"""What each column gives to a cell's number, by seed."""

NOT_POSITIVE = "base not positive"


@dataclass(frozen=True)
class Runs:
    """Runs behind the cells that are made of them.

    Attributes:
        found: records.
        numbers: by cell and seed, their positions in what was found; -1 for none.
    """

    found: Found
    numbers: Mapping[CellId, Mapping[int, int]]


def with_columns_over_others(grid: Grid, cells: Cells, runs: Runs) -> dict[CellId, Cell]:
    """All cells of a table, in its order.

    Args:
        grid: the planned table; of a part of it, the cells that lack nothing are made.
        cells: those of runs, and those that are reported only.
        runs: behind them.
    """
    made = dict(cells)
    over = [name for name, column in grid.spec.columns.items() if column.over_columns is not None]
    for row in grid.spec.rows if over else ():
        for column in over:
            parts = behind(grid.spec, row, column, grid.protocol)
            if parts and all(place in grid.cells for place in parts):
                made[row, column] = _cell(grid, cells, runs, row, column, parts)
    order = ((row, column) for row in grid.spec.rows for column in grid.spec.columns)
    return {place: made[place] for place in order if place in made} if over else made


def shares(spec: TableSpec, cells: Cells, row: str, column: str, protocol: str) -> Shares:
    """What each column gives to a cell: its relative change in %, or its rank.

    Only seeds that all columns have, and of ranks all ranked rows as well.
    """
    over = spec.columns[column].over_columns
    assert over is not None
    if over.kind == "mean_rank":
        return _ranks(spec, cells, row, over.columns, ranked(spec, column, protocol))
    base = base_of(spec, cells, column)
    if any(value is None or value <= 0 for value in base.values()):
        return {}
    return {
        seed: {
            # 0.0 is added because -0.0 would be shown with its sign.
            one: sign * 100 * (cells[row, one].values[at[one]] - below) / below + 0.0
            for one, below in base.items()
            if below is not None
            for sign in [-1.0 if _metric(spec, one).direction == "max" else 1.0]
        }
        for seed, at in _seeds(spec, cells, [row], over.columns).items()
    }


def base_of(spec: TableSpec, cells: Cells, column: str) -> dict[str, float | None]:
    """What a column's changes are from, by the columns that it is over; None for no number yet."""
    over = spec.columns[column].over_columns
    assert over is not None
    assert over.base is not None
    if over.base.values is not None:
        return {one: over.base.values[one] for one in over.columns}
    return {one: cells[over.base.row or "", one].mean for one in over.columns}


def _ranks(
    spec: TableSpec, cells: Cells, row: str, columns: Sequence[str], rows: Sequence[str]
) -> Shares:
    found: Shares = {}
    for seed, at in _seeds(spec, cells, rows, columns).items():
        found[seed] = {}
        for one in columns:
            metric = _metric(spec, one)
            scores = {r: _score(metric, cells[r, one].values[at[one]]) for r in rows}
            less = sum(score < scores[row] for score in scores.values())
            equal = sum(score == scores[row] for score in scores.values())
            found[seed][one] = less + (equal + 1) / 2
    return found


def _score(metric: Metric, value: float) -> float:
    """The less, the better; claims and bold numbers go by an ideal first as well."""
    if metric.ideal is not None:
        return abs(value - metric.ideal)
    return -value if metric.direction == "max" else value


def _seeds(
    spec: TableSpec, cells: Cells, rows: Sequence[str], columns: Sequence[str]
) -> dict[int, dict[str, int]]:
    """Seeds that all cells have, with the seed that each column's number is of.

    A deterministic column has one number, which is that of every seed.
    """
    fixed = {one for one in columns if _metric(spec, one).deterministic}
    known = {one: [cells[row, one].values.keys() for row in rows] for one in columns}
    if any(not seeds for of_rows in known.values() for seeds in of_rows):
        return {}
    drawn = [one for one in columns if one not in fixed] or columns
    first = known[drawn[0]][0]
    common = [s for s in first if all(s in seeds for one in drawn for seeds in known[one])]
    only = {one: next(iter(known[one][0])) for one in fixed}
    return {seed: {one: only.get(one, seed) for one in columns} for seed in common}


def _metric(spec: TableSpec, column: str) -> Metric:
    return spec.metrics[spec.columns[column].metric]


def _cell(
    grid: Grid, cells: Cells, runs: Runs, row: str, column: str, parts: Sequence[CellId]
) -> Cell:
    spec, found = grid.spec, runs.found
    over = spec.columns[column].over_columns
    assert over is not None
    own = [place for place in parts if place[0] != over.base_row]
    base = [cells[place] for place in parts if place[0] == over.base_row]
    seeds = _planned(grid, own)
    ends, n_done = _ends(runs, own, seeds)
    pending = n_done + ends.get("diverged", 0) < len(seeds)
    if any(cell.waits for cell in base):
        n_done = 0  # what a base of fewer seeds gives would move with every further one
    elif not pending:
        for cell in base:
            for status, count in cell.ended.items():
                ends[status] = max(ends.get(status, 0), min(count, len(seeds)))
    made = shares(spec, cells, row, column, grid.protocol) if n_done else {}
    combine = np.std if over.kind == "relative_spread" else np.mean
    values = {s: float(combine(list(made[s].values()))) for s in seeds if s in made}
    mean, std = mean_std(list(values.values()))
    reported = spec.reported.get(row, {}).get(column)
    marks = _marks([cells[place] for place in parts], values, ends, len(seeds), n_done)
    if n_done and base and any((cell.mean or 0) <= 0 for cell in base if cell.mean is not None):
        marks.append(NOT_POSITIVE)
    marks += _of_runs(runs, parts, timed=spec.timing == "alone")
    numbers = [_number(runs, (row, one), s) for s in values for one in over.columns]
    return Cell(
        row,
        column,
        spec.columns[column].metric,
        mean,
        std,
        len(values),
        len(seeds),
        values,
        reported,
        marks=marks + ([] if reported is None else reported_marks(reported)),
        run_keys=list(dict.fromkeys(found.columns.keys[n] for n in numbers)),
        n_done=n_done,
        ended=ends,
    )


def _planned(grid: Grid, places: Sequence[CellId]) -> list[int]:
    """Seeds that all of some cells are run with; one that is deterministic has any."""
    seeds = {place: grid.cell_seeds(grid.cells[place]) for place in places}
    drawn = [s for (_, one), s in seeds.items() if not _metric(grid.spec, one).deterministic]
    return min(drawn or seeds.values(), key=len)


def _number(runs: Runs, place: CellId, seed: int) -> int:
    """Position of a cell's run of a seed; a cell of one run for all seeds has that."""
    known = runs.numbers[place]
    return next(iter(known.values()), -1) if len(known) == 1 else known.get(seed, -1)


def _ends(runs: Runs, places: Sequence[CellId], seeds: Sequence[int]) -> tuple[dict[str, int], int]:
    """Seeds of which some run was lost, by how it ended, and those of which all are done."""
    numbers = np.array([_number(runs, p, s) for p in places for s in seeds], dtype=np.int64)
    shape = len(places), len(seeds)
    ends: dict[str, int] = {}
    for status in (Status.DIVERGED, Status.FAILED, Status.TIMEOUT):
        if count := int(runs.found.status_is(numbers, status).reshape(shape).any(axis=0).sum()):
            ends[status.value] = count
    return ends, int(runs.found.done(numbers).reshape(shape).all(axis=0).sum())


def _marks(
    parts: Sequence[Cell],
    values: Mapping[int, float],
    ends: Mapping[str, int],
    n_planned: int,
    n_done: int,
) -> list[str]:
    """Those of the parts that hold for what is made of them, in a cell's order."""
    theirs = {mark for cell in parts for mark in cell.marks}
    marks = [mark for mark in ("not selected yet", "selection stale") if mark in theirs]
    if len(values) < n_planned:
        marks.append(f"partial {len(values)}/{n_planned}")
    if n_done and not values and "not recorded" in theirs:
        marks.append("not recorded")
    marks += [f"{status} {count}/{n_planned}" for status, count in ends.items()]
    if {"stale", "partly stale"} & theirs:
        whole = all("stale" in cell.marks for cell in parts if cell.n_done)
        marks.append("stale" if whole else "partly stale")
    return marks


def _of_runs(runs: Runs, parts: Sequence[CellId], *, timed: bool) -> list[str]:
    """What is to be known of where the runs of all parts were made."""
    every = (number for place in parts for number in runs.numbers[place].values())
    numbers = np.array(list(dict.fromkeys(every)), dtype=np.int64)
    abouts = runs.found.abouts(numbers[runs.found.done(numbers)])
    said = {
        "mixed devices": len({about.device for about in abouts}) > 1,
        "pulled": any(about.pulled for about in abouts),
        "not alone": timed and not all(about.alone for about in abouts),
        "begun elsewhere": timed and any(about.begun for about in abouts),
    }
    return [mark for mark, holds in said.items() if holds]
