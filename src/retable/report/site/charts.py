"""Charts as plain values: figures of tables, and learning curves with a band over the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retable.report.site.inputs import History, ShownTable
from retable.runs.history import metrics_of
from retable.tables.aggregate import Cell, mean_std
from retable.tables.figure_spec import Figure, Panel

Chart = dict[str, Any]
"""title, x, y (axis titles), log (axes), band (of a figure: what it is), lines; a line has
name, kind, x, y, sd or None, its style (colour and dash, numbers) and key: whether it has a line
of its own in the chart's key, as all but reported points of a line, and further runs of it, have.
A line of a figure that marks places on the x axis has mark, its own place, too."""

_DIGITS = 6
_LOOKS = 6  # colours of the style sheet, and dashes


def rounded(value: float | None) -> float | None:
    """A number as a chart needs it: six digits, None where it is not finite."""
    return float(f"{value:.{_DIGITS}g}") if value is not None and math.isfinite(value) else None


def _line(
    name: str, kind: str, x: Sequence[float], y: Sequence[float], sd: Sequence[float | None]
) -> dict[str, Any]:
    spread = [rounded(s) for s in sd]
    return {
        "name": name,
        "kind": kind,
        "x": list(x),
        "y": [rounded(v) for v in y],
        "sd": spread if any(s is not None for s in spread) else None,
    }


def _style(number: int) -> tuple[int, int]:
    """Colour and dash: where colours begin again, each has the next dash."""
    return number % _LOOKS, (number + number // _LOOKS) % _LOOKS


def _styled(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each line with its style; reported points, and further runs, share that of their line."""
    number, own = -1, None
    for line in lines:
        paper = line["kind"] == "paper"
        follows = own is not None and line["name"] == (f"{own}, reported" if paper else own)
        number += not follows
        own = None if paper else line["name"]
        line |= {"style": _style(number), "key": not follows}
    return lines


def keys(chart: Chart) -> tuple[tuple[str, tuple[int, int]], ...]:
    """Names and styles in the chart's key."""
    return tuple((line["name"], line["style"]) for line in chart["lines"] if line["key"])


# Figures.


def figure(source: ShownTable) -> list[Chart]:
    """The table as the curves that it is in the paper; empty where it is none."""
    shape = source.table.spec.figure
    if not isinstance(shape, Figure):
        return []
    return [_panel(source, shape, panel) for panel in shape.panels]


def _panel(source: ShownTable, shape: Figure, panel: Panel) -> Chart:
    spec = source.table.spec
    by_row = shape.lines == "rows"
    names = spec.rows if by_row else spec.columns
    points = sorted(panel.points.items(), key=lambda point: point[1])
    lines: list[dict[str, Any]] = []
    units: list[str] = []
    for name, part in names.items():
        if panel.only is not None and name not in panel.only:
            continue
        places = [((name, p) if by_row else (p, name), x) for p, x in points]
        cells = [
            (source.table.cells[place], x) for place, x in places if place in source.table.cells
        ]
        units += [_axis(source, cell) for cell, _ in cells]
        own = _lines(shape, part.title or name, cells)
        at = source.table.cells.get((name, shape.marks)) if shape.marks else None
        if at is not None:
            _mark(own, at, shape)
        lines += own
    return {
        "title": panel.title,
        "x": panel.x or shape.x,
        "y": shape.y or (units[0] if units else ""),
        "log": list(shape.log_of(panel)),
        "band": "" if shape.runs else shape.band_text,
        "lines": _styled(lines),
    }


def _lines(shape: Figure, name: str, cells: list[tuple[Cell, float]]) -> list[dict[str, Any]]:
    found = _each(name, cells) if shape.runs else []
    ours = [
        (x, c.mean, None if c.std is None else shape.half(c.std, c.n))
        for c, x in cells
        if c.mean is not None
    ]
    if ours and not shape.runs:
        xs, ys, sd = zip(*ours, strict=True)
        found.append(_line(name, "ours", xs, ys, sd))
    theirs = [(x, c.reported) for c, x in cells if c.reported is not None]
    if theirs:
        found.append(
            _line(
                f"{name}, reported",
                "paper",
                [x for x, _ in theirs],
                [float(r.value) for _, r in theirs],
                [None if r.spread is None else float(r.spread) for _, r in theirs],
            )
        )
    return found


def _each(name: str, cells: list[tuple[Cell, float]]) -> list[dict[str, Any]]:
    """A line for each run."""
    found: list[dict[str, Any]] = []
    for seed in sorted({seed for cell, _ in cells for seed in cell.values}):
        there = [(x, cell.values[seed]) for cell, x in cells if seed in cell.values]
        xs, ys = zip(*there, strict=True)
        found.append(_line(name, "ours", xs, ys, [None] * len(xs)) | {"seed": seed})
    return found


def _mark(lines: list[dict[str, Any]], at: Cell, shape: Figure) -> None:
    """Give the place on the x axis to the line of the mean, or to each run its own."""
    for line in lines:
        place = at.values.get(line.get("seed", -1)) if shape.runs else at.mean
        if line["kind"] == "ours" and place is not None:
            line["mark"] = rounded(place)


def _axis(source: ShownTable, cell: Cell) -> str:
    metric = source.table.spec.metrics[cell.metric]
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.title or cell.metric}{unit}"


# Learning curves.


def _band(at: Mapping[float, list[float]]) -> dict[str, list[Any]]:
    """Mean and standard deviation over the seeds at each epoch that has the metric."""
    epochs = sorted(at)
    most = max(len(values) for values in at.values())
    if most == 1:  # a run of its own: no statistics
        return {"x": epochs, "y": [at[epoch][0] for epoch in epochs], "sd": []}
    if all(len(values) == most for values in at.values()):  # all at once: ten times as fast
        array = np.array([at[epoch] for epoch in epochs])
        return {
            "x": epochs,
            "y": array.mean(axis=1).tolist(),
            "sd": array.std(axis=1, ddof=1).tolist(),
        }
    statistics = [mean_std(at[epoch]) for epoch in epochs]
    return {
        "x": epochs,
        "y": [mean for mean, _ in statistics],
        "sd": [std for _, std in statistics],
    }


Bands = dict[str, dict[str, list[Any]]]
"""A setting's curves: epochs x, means y and standard deviations sd by metric."""


def bands(histories: Sequence[History]) -> Bands:
    """Every metric of a setting over its seeds."""
    names = metrics_of(row for history in histories for row in history)
    found: dict[str, dict[float, list[float]]] = {name: {} for name in names}
    for row in (row for history in histories for row in history):
        epoch = row["epoch"]
        for name, value in row.items():
            if name in found and math.isfinite(value):
                found[name].setdefault(epoch, []).append(value)
    return {name: _band(at) for name, at in found.items() if at}


def learning(named: Mapping[str, Bands]) -> list[Chart]:
    """Learning curves of several settings, a chart for each metric.

    Args:
        named: curves by the name of the setting. A single one has its training and validation
            metrics in one chart.
    """
    single = len(named) == 1
    groups: dict[str, list[str]] = {}
    for metric in sorted({metric for found in named.values() for metric in found}):
        title = metric.partition("/")[2] or metric if single else metric
        groups.setdefault(title, []).append(metric)
    return [
        {
            "title": title,
            "x": "epoch",
            "y": title,
            "log": [],
            "lines": _styled(
                [
                    _line(metric if single else name, "ours", **found[metric])
                    for name, found in named.items()
                    for metric in members
                    if metric in found
                ]
            ),
        }
        for title, members in groups.items()
    ]
