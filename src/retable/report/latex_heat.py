r"""Heat maps as LaTeX: rules in the picture environment, for which ``xcolor`` is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retable.report.latex_escape import escape
from retable.report.svg import colours, heat
from retable.report.svg.axes import Axis
from retable.report.svg.panels import title_of
from retable.tables.aggregate import Table
from retable.tables.heat_maps import HeatMap, heat_maps
from retable.tables.heat_spec import Heat

MOST = 64
"""Rows or columns that are drawn: of more, TeX would set each as a rule of its own for seconds."""

_SWATCHES = 64
"""Rules of the bar of colours."""


def figure(table: Table, spec: Heat, label: str) -> list[str]:
    """A float with all panels, the bar of their colours, and what is missing in words.

    Args:
        table: with its artefacts.
        spec: its figure.
        label: of the float.
    """
    found = heat_maps(table, spec)
    scale = heat.scale_of(spec, found)
    drawn = [_panel(spec, one, scale) for one in found]
    said = f"{escape(spec.title)}. {escape(heat.about(table, found, scale))}."
    return floated(drawn, spec.across, said, label, above=_bar(scale))


def floated(
    drawn: Sequence[list[str]], most: int, caption: str, label: str, above: Sequence[str] = ()
) -> list[str]:
    """A float with panels beside and below each other.

    Args:
        drawn: lines of each panel.
        most: panels beside each other.
        caption: of the float, escaped.
        label: of the float.
        above: lines above the panels.
    """
    across = min(len(drawn), most)
    lines = [r"\begin{figure}[tbp]", r"\centering", *above]
    for number, panel in enumerate(drawn):
        last = number % across == across - 1 or number == len(drawn) - 1
        lines += [
            rf"\begin{{minipage}}[t]{{{0.98 / across:.3f}\linewidth}}\centering\scriptsize",
            *panel,
            r"\end{minipage}" + (r"\par\medskip" if last else "%"),
        ]
    return [*lines, rf"\caption{{{caption}}}", label, r"\end{figure}"]


def _bar(scale: Axis) -> list[str]:
    lines = [r"{\scriptsize\setlength{\unitlength}{0.4\linewidth}"]
    lines.append(rf"\divide\unitlength by {_SWATCHES}")
    rules = [
        rf"\put({i},0){{{_rule(colours.level(i / (_SWATCHES - 1)), 1, 2)}}}"
        for i in range(_SWATCHES)
    ]
    low, high = (escape(heat.short(end)) for end in (scale.low, scale.high))
    picture = rf"\begin{{picture}}({_SWATCHES},2){''.join(rules)}\end{{picture}}"
    return [*lines, rf"{low} {picture} {high}\par\medskip}}"]


def _panel(spec: Heat, one: HeatMap, scale: Axis) -> list[str]:
    if one.mean is None:
        return headed(one)
    rows, columns = one.mean.shape
    lines = headed(one, heat.runs(one))
    if max(rows, columns) > MOST:
        return [*lines, f"{rows} by {columns} numbers: too many to be drawn here"]
    lines += opened(rows, columns)
    for row, line in enumerate(one.mean):
        for level, first, count in heat.stretches(line, scale):
            if level is not None:
                lines.append(rf"\put({first},{rows - 1 - row}){{{_rule(level, count, 1)}}}%")
    lines += [*_numbers(one.mean, scale), r"\end{picture}\par"]
    named = [f"{name} to the right" for name in (spec.x,) if name]
    named += [f"{name} downwards" for name in (spec.y,) if name and rows > 1]
    return [*lines, escape(", ".join(named))]


def headed(one: HeatMap, of: str = "") -> list[str]:
    """The title of a panel and whose numbers they are, or why there is nothing to show."""
    title = escape(title_of(one))
    if one.mean is None:
        return [rf"{title}\par\smallskip", rf"Nothing to show: {escape(one.why)}"]
    return [rf"{title} ({escape(of)})\par\smallskip"]


def opened(rows: int, columns: int) -> list[str]:
    """The beginning of a picture of so many cells, as wide as there is room."""
    return [
        r"\setlength{\unitlength}{0.88\linewidth}",
        rf"\divide\unitlength by {max(rows, columns)}",
        rf"\begin{{picture}}({columns},{rows})",
    ]


def _rule(level: int, width: int, height: int) -> str:
    return rule(colours.colour(level).removeprefix("#"), width, height)


def rule(colour: str, width: int, height: int) -> str:
    """A rectangle of ``rrggbb``, in units of the picture."""
    size = rf"{{{width}\unitlength}}{{{height}\unitlength}}"
    return rf"\textcolor[HTML]{{{colour.upper()}}}{{\rule{size}}}"


def _numbers(mean: NDArray[np.float64], scale: Axis) -> list[str]:
    """Each number in its cell, where they are few."""
    rows, columns = mean.shape
    if max(rows, columns) > heat.WRITTEN:
        return []
    out: list[str] = []
    for row, texts in enumerate(heat.written(mean, scale)):
        for column, text in enumerate(texts):
            value = float(mean[row, column])
            if not math.isfinite(value):
                continue
            dark = colours.is_dark(colours.level(scale.share(value)))
            ink = rf"\textcolor{{{'white' if dark else 'black'}}}{{{escape(text)}}}"
            place = f"{column}.5,{rows - 1 - row}.5"
            out.append(
                rf"\put({place}){{\makebox(0,0){{\resizebox{{!}}{{0.26\unitlength}}{{{ink}}}}}}}%"
            )
    return out
