"""Heat maps of arrays that runs have left: coloured cells, one scale of colours for all panels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from retable.report.svg import colours, panels
from retable.report.svg.axes import Axis, axis, between
from retable.report.svg.canvas import MARGIN, WIDTH, page
from retable.tables.aggregate import Table
from retable.tables.heat_maps import HeatMap, heat_maps
from retable.tables.heat_spec import Heat

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 40, 44
WRITTEN = 12
"""Rows and columns up to which the numbers stand in their cells."""

_FLAT, _TALL = 16, 46
"""Height of the cells of a single line: no thread where they are many, no block where few."""

_LEAST = 4.5
"""Size of type below which numbers are left out."""

_ROUNDING = 1e-5
"""Of the scale's length: what a cosine of 32 bits may be above 1 without being beyond it."""

_BAR, _BAR_HEIGHT = 260, 44
_EMPTY = 60
"""Height of a panel that has nothing to show."""

_STYLE = f"<style>text.k{{fill:#000}}text.l{{fill:#fff}}{panels.STYLE}</style>"


@dataclass(frozen=True)
class _Frame:
    """Where the cells of a panel lie: left and top are those of the first one."""

    cell: tuple[float, float]
    rows: int
    columns: int

    @property
    def size(self) -> tuple[float, float]:
        return self.cell[0] * self.columns, self.cell[1] * self.rows


def render(table: Table, figure: Heat) -> str:
    """SVG: the means as coloured cells, a bar of the colours, and what is missing in words."""
    found = heat_maps(table, figure)
    scale = scale_of(figure, found)
    columns = min(len(figure.panels), figure.across)
    width = (WIDTH - 2 * MARGIN) / columns
    lines = wrap(about(table, found, scale), 140)
    y = float(MARGIN + _BAR_HEIGHT + 12 + 15 * len(lines))
    body = [_STYLE, *(_bar(figure, scale) if any(one.mean is not None for one in found) else [])]
    for number, line in enumerate(lines):
        at = MARGIN + _BAR_HEIGHT + 14 + 15 * number
        body.append(f'<text class="s" x="{MARGIN + 12}" y="{at}">{escape(line)}</text>')
    for start in range(0, len(found), columns):
        abreast = found[start : start + columns]
        frames = [_frame(one, width) for one in abreast]
        for number, (one, frame) in enumerate(zip(abreast, frames, strict=True)):
            body.append(f'<g transform="translate({MARGIN + number * width:g} {y:g})">')
            body += _panel(figure, one, frame, scale, width)
            body.append("</g>")
        y += _TOP + max(frame.size[1] for frame in frames) + _BOTTOM
    return page(table.spec.title, _described(table, figure, found), round(y) + MARGIN, body)


def scale_of(figure: Heat, found: list[HeatMap]) -> Axis:
    """The numbers that the colours stand for, the same in all panels."""
    if figure.limits is not None:
        return between(figure.limits[0], figure.limits[1])
    shown = [one.mean[np.isfinite(one.mean)] for one in found if one.mean is not None]
    ends = [float(v) for some in shown if some.size for v in (some.min(), some.max())]
    whole = axis(ends, log=False)
    # No further than the numbers go, so that all colours are used; of one number, around it.
    return between(min(ends), max(ends)) if len(set(ends)) > 1 else whole


def described(table: Table, figure: Heat) -> str:
    """What the picture shows, for who does not see it."""
    return _described(table, figure, heat_maps(table, figure))


def _described(table: Table, figure: Heat, found: list[HeatMap]) -> str:
    what = f"Heat maps of {figure.title}, means over runs"
    summary = partial(_summary, square=figure.x == figure.y)
    return panels.described(what, found, summary, table.protocol)


def _summary(one: HeatMap, *, square: bool) -> str:
    """Its numbers; those of the diagonal where both axes are the same things."""
    assert one.mean is not None
    rows, columns = one.mean.shape
    known = one.mean[np.isfinite(one.mean)]
    said = f"{rows} × {columns} numbers of {runs(one)}"
    said += f", from {short(known.min())} to {short(known.max())}" if known.size else ""
    if square and rows == columns > 1 and known.size == one.mean.size:
        off = one.mean[~np.eye(rows, dtype=bool)]
        said += f", mean {short(np.trace(one.mean) / rows)} on the diagonal and"
        said += f" {short(off.mean())} off it"
    if gone := one.mean.size - known.size:
        said += f", {gone} of them not finite"
    return said


def short(value: float) -> str:
    """A number in three digits."""
    return f"{value:.3g}".replace("-", "−")


def runs(one: HeatMap) -> str:
    """Over how many runs a mean is; not all that there are to be, where some are missing."""
    if one.n < one.n_planned:
        return f"{one.n} of {one.n_planned} runs"
    return "1 run" if one.n == 1 else f"{one.n} runs"


def about(table: Table, found: list[HeatMap], scale: Axis) -> str:
    """What has to be known beside the panels."""
    gone = any(one.mean is not None and not np.isfinite(one.mean).all() for one in found)
    parts = ["Elementwise means over runs, of what they left"]
    parts += ["dashed: not finite"] if gone else []
    shown = [one.mean[np.isfinite(one.mean)] for one in found if one.mean is not None]
    room = _ROUNDING * (scale.high - scale.low)
    if any(((some < scale.low - room) | (some > scale.high + room)).any() for some in shown):
        parts.append("numbers beyond the scale have the colour of its end")
    return f"{'; '.join(parts)}; protocol {table.protocol}"


def _bar(figure: Heat, scale: Axis) -> list[str]:
    """The colours with their numbers."""
    x, y, last = MARGIN + 12, MARGIN + 8, len(colours.ANCHORS) - 1
    stops = [
        f'<stop offset="{i / last:.4f}" stop-color="{c}"/>' for i, c in enumerate(colours.ANCHORS)
    ]
    out = [
        f'<linearGradient id="bar">{"".join(stops)}</linearGradient>',
        f'<rect x="{x}" y="{y}" width="{_BAR}" height="12" fill="url(#bar)"/>',
        f'<text class="h" x="{x + _BAR + 14}" y="{y + 10.5:g}">{escape(figure.title)}</text>',
    ]
    for tick in scale.ticks:
        at = x + scale.share(tick) * _BAR
        out.append(f'<path class="a" d="M{at:.1f} {y + 12}v4"/>')
        out.append(
            f'<text class="s" x="{at:.1f}" y="{y + 28}" text-anchor="middle">'
            f"{scale.text(tick)}</text>"
        )
    return out


def _frame(one: HeatMap, width: float) -> _Frame:
    rows, columns = one.mean.shape if one.mean is not None else (1, 1)
    across = (width - _LEFT - _RIGHT) / columns
    if one.mean is None:
        return _Frame((across, float(_EMPTY)), 1, 1)
    side = min(across, (width - _LEFT - _RIGHT) / rows) if rows > 1 else across
    return _Frame((side, min(max(side, _FLAT), _TALL) if rows == 1 else side), rows, columns)


def _panel(figure: Heat, one: HeatMap, frame: _Frame, scale: Axis, width: float) -> list[str]:
    n, title = "" if one.mean is None else runs(one), one.panel.title
    size = min(12.0, (width - _LEFT) / (0.6 * max(len(title), 1)))
    out = [
        f'<text class="h" style="font-size:{size:.3g}px" x="{_LEFT}" y="{_TOP - 22}">'
        f"{escape(title)}</text>",
        f'<text class="s" x="{_LEFT}" y="{_TOP - 7}">{escape(n)}</text>',
        f'<g transform="translate({_LEFT} {_TOP})">',
    ]
    if one.mean is None:
        out += panels.empty(one.why, (frame.size[0], _EMPTY), int(width / 7))
    else:
        out += _cells(one.mean, frame, scale)
        out += _ticks(figure, frame)
        if max(one.mean.shape) <= WRITTEN:
            out += _numbers(one.mean, frame, scale)
    return [*out, "</g>"]


def _cells(mean: NDArray[np.float64], frame: _Frame, scale: Axis) -> list[str]:
    """A path for each colour that occurs, so that thousands of cells are a small file."""
    by_level: dict[int, list[str]] = {}
    dashed: list[str] = []
    for row, line in enumerate(mean):
        for level, first, count in stretches(line, scale):
            if level is None:
                dashed.append(f"M{first} {row}h{count}v1h-{count}z")
            else:  # a line as thick as the row is half as long to write as a rectangle
                by_level.setdefault(level, []).append(f"M{first} {row}.5h{count}")
    grow = f'transform="scale({frame.cell[0]:.3f} {frame.cell[1]:.3f})"'
    out = [f'<g class="q" {grow}>']
    for level, paths in sorted(by_level.items()):
        out.append(f'<path stroke="{colours.colour(level)}" d="{"".join(paths)}"/>')
    if dashed:
        still = 'vector-effect="non-scaling-stroke"'
        out.append(f'<path class="n" {still} d="{"".join(dashed)}"/>')
    return [*out, "</g>"]


def stretches(line: NDArray[np.float64], scale: Axis) -> Iterator[tuple[int | None, int, int]]:
    """Neighbours of one colour: its level (None where no number is), the first, and how many."""
    levels = [colours.level(scale.share(v)) if math.isfinite(v) else None for v in line.tolist()]
    return panels.stretches(levels)


def _numbers(mean: NDArray[np.float64], frame: _Frame, scale: Axis) -> list[str]:
    """Each number in its cell."""
    texts = written(mean, scale)
    longest = max(len(text) for line in texts for text in line)
    size = min(12.0, frame.cell[0] / (0.68 * longest + 0.3), 0.6 * frame.cell[1])
    if size < _LEAST:
        return []
    out = ['<g text-anchor="middle">']
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            value = float(mean[row, column])
            if math.isfinite(value):
                ink = "l" if colours.is_dark(colours.level(scale.share(value))) else "k"
                x, y = (column + 0.5) * frame.cell[0], (row + 0.5) * frame.cell[1] + 0.35 * size
                out.append(
                    f'<text class="{ink}" style="font-size:{size:.1f}px" x="{x:.1f}"'
                    f' y="{y:.1f}">{text}</text>'
                )
    return [*out, "</g>"]


def written(mean: NDArray[np.float64], scale: Axis) -> list[list[str]]:
    """Numbers of an array, with as many digits as tell the colours of the scale apart."""
    digits = max(0, 2 - round(math.log10(scale.high - scale.low)))
    return [[_written(v, digits) for v in line] for line in mean.tolist()]


def _written(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return ""
    text = f"{value:.{digits}f}" if digits <= 6 and abs(value) < 1e6 else f"{value:.1e}"
    return (text[1:] if float(text) == 0 else text).replace("-", "−") if text[0] == "-" else text


def _ticks(figure: Heat, frame: _Frame) -> list[str]:
    """Numbers of rows and columns, with the titles of both."""
    (width, height), out = frame.size, list[str]()
    for column in _marked(frame.columns, frame.cell[0], 7.0 * len(str(frame.columns)) + 6):
        x = (column + 0.5) * frame.cell[0]
        out.append(
            f'<text class="s" x="{x:.1f}" y="{height + 14:.1f}" text-anchor="middle">'
            f"{figure.first + column}</text>"
        )
    for row in _marked(frame.rows, frame.cell[1], 14.0) if frame.rows > 1 else []:
        y, name = (row + 0.5) * frame.cell[1] + 4, figure.first + row
        out.append(f'<text class="s" x="-6" y="{y:.1f}" text-anchor="end">{name}</text>')
    if figure.x:
        out.append(
            f'<text x="{width / 2:.1f}" y="{height + 32:.1f}" text-anchor="middle">'
            f"{escape(figure.x)}</text>"
        )
    if figure.y and frame.rows > 1:
        turn = f'transform="translate(-34 {height / 2:.1f}) rotate(-90)"'
        out.append(f'<text {turn} text-anchor="middle">{escape(figure.y)}</text>')
    return out


def _marked(count: int, size: float, room: float) -> range:
    """Every one, second, fifth, tenth ... so that their numbers have room."""
    steps = (f * 10**p for p in range(4) for f in (1, 2, 5))
    return range(0, count, next(step for step in steps if step * size >= room))
