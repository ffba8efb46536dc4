"""Images that runs have left: grey or coloured pixels, each panel of one run."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from retable.report.svg.canvas import MARGIN, WIDTH, page
from retable.tables.aggregate import Table
from retable.tables.heat_maps import HeatMap, heat_maps
from retable.tables.heat_spec import Image

_GAP, _TOP = 10, 40
_LARGEST = 280
"""Side of an image that has all the room it wants."""

_EMPTY = 90
"""Height of a panel that has nothing to show."""

_STYLE = (
    "<style>.q{shape-rendering:crispEdges;fill:none}"
    ".n{fill:none;stroke:#818b98;stroke-dasharray:3 3}</style>"
)


def render(table: Table, figure: Image) -> str:
    """SVG: each image with its title and seed, and what is missing in words."""
    found = heat_maps(table, figure)
    columns = min(len(found), figure.across)
    width = (WIDTH - 2 * MARGIN) / columns
    room = min(width - _GAP, _LARGEST)
    body = [_STYLE, *_heading(figure, table.protocol)]
    y = MARGIN + 22.0
    for start in range(0, len(found), columns):
        abreast = found[start : start + columns]
        for number, one in enumerate(abreast):
            body.append(f'<g transform="translate({MARGIN + number * width:g} {y:g})">')
            body += _panel(one, room)
            body.append("</g>")
        y += _TOP + max(_height(one, room) for one in abreast) + _GAP
    return page(table.spec.title, described(table, figure), round(y) + MARGIN, body)


def described(table: Table, figure: Image) -> str:
    """What the picture shows, for who does not see it."""
    parts = [f"Images of {figure.title}, each of one run"]
    for one in heat_maps(table, figure):
        title = one.panel.title or f"{one.panel.row}, {one.panel.column}"
        parts.append(f"{title}: {_summary(one)}")
    return f"{'; '.join(parts)}; protocol {table.protocol}"


def _summary(one: HeatMap) -> str:
    if one.mean is None:
        return f"nothing, {one.why}"
    rows, columns, _ = one.mean.shape
    return f"{rows} × {columns} pixels of seed {one.seed}"


def _heading(figure: Image, protocol: str) -> list[str]:
    black, white = (f"{end:g}".replace("-", "−") for end in figure.limits)
    said = f"Black is {black}, white {white}; protocol {protocol}"
    return [
        f'<text x="{MARGIN}" y="{MARGIN + 10}"><tspan class="h">{escape(figure.title)}</tspan>'
        f'<tspan class="s" dx="12">{escape(said)}</tspan></text>'
    ]


def _height(one: HeatMap, room: float) -> float:
    if one.mean is None:
        return _EMPTY
    rows, columns, _ = one.mean.shape
    return room / max(rows, columns) * rows


def _panel(one: HeatMap, room: float) -> list[str]:
    title = one.panel.title
    size = min(12.0, room / (0.6 * max(len(title), 1)))
    out = [
        f'<text class="h" style="font-size:{size:.3g}px" y="{_TOP - 22}">{escape(title)}</text>',
        f'<g transform="translate(0 {_TOP})">',
    ]
    if one.mean is None:
        out.append(f'<rect class="n" x=".5" y=".5" width="{room - 1:g}" height="{_EMPTY - 1}"/>')
        for number, line in enumerate(wrap(f"Nothing to show: {one.why}", int(room / 6.5))[:5]):
            out.append(f'<text class="s" x="8" y="{18 + 15 * number}">{escape(line)}</text>')
        return [*out, "</g>"]
    out.insert(1, f'<text class="s" y="{_TOP - 7}">seed {one.seed}</text>')
    out += [f'<g class="q" transform="scale({room / max(one.mean.shape[:2]):.4f})">']
    for row, line in enumerate(one.mean):
        for colour, first, count in stretches(line):
            out.append(f'<path stroke="#{colour}" d="M{first} {row}.5h{count}"/>')
    return [*out, "</g>", "</g>"]


def stretches(line: NDArray[np.float64]) -> Iterator[tuple[str, int, int]]:
    """Neighbours of one colour in a row (C, 3): ``rrggbb``, the first, and how many."""
    colours = ["".join(f"{round(255 * part):02x}" for part in pixel) for pixel in line.tolist()]
    first = 0
    for number in range(1, len(colours) + 1):
        if number == len(colours) or colours[number] != colours[first]:
            yield colours[first], first, number - first
            first = number
