"""Images that runs have left: grey or coloured pixels, each panel of one run."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from retable.report.svg import panels
from retable.report.svg.canvas import MARGIN, WIDTH, page
from retable.tables.aggregate import Table
from retable.tables.heat_maps import HeatMap, heat_maps
from retable.tables.heat_spec import Image

_GAP, _TOP = 10, 40
_LARGEST = 280
"""Side of an image that has all the room it wants."""

_EMPTY = 90
"""Height of a panel that has nothing to show."""

_STYLE = f"<style>{panels.STYLE}.e{{fill:none;stroke:#818b98;stroke-width:.5}}</style>"


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
        y += _TOP + max(_size(one, room)[1] for one in abreast) + _GAP
    return page(table.spec.title, _described(table, figure, found), round(y) + MARGIN, body)


def described(table: Table, figure: Image) -> str:
    """What the picture shows, for who does not see it."""
    return _described(table, figure, heat_maps(table, figure))


def _described(table: Table, figure: Image, found: list[HeatMap]) -> str:
    what = f"Images of {figure.title}, each of one run"
    return panels.described(what, found, _summary, table.protocol)


def _summary(one: HeatMap) -> str:
    assert one.mean is not None
    rows, columns, _ = one.mean.shape
    return f"{rows} × {columns} pixels of seed {one.seed}"


def _heading(figure: Image, protocol: str) -> list[str]:
    black, white = (f"{end:g}".replace("-", "−") for end in figure.limits)
    said = f"Black is {black}, white {white}; protocol {protocol}"
    return [
        f'<text x="{MARGIN}" y="{MARGIN + 10}"><tspan class="h">{escape(figure.title)}</tspan>'
        f'<tspan class="s" dx="12">{escape(said)}</tspan></text>'
    ]


def _size(one: HeatMap, room: float) -> tuple[float, float]:
    """Width and height."""
    if one.mean is None:
        return room, _EMPTY
    rows, columns, _ = one.mean.shape
    side = room / max(rows, columns)
    return columns * side, rows * side


def _panel(one: HeatMap, room: float) -> list[str]:
    title = one.panel.title
    size = min(12.0, room / (0.6 * max(len(title), 1)))
    out = [
        f'<text class="h" style="font-size:{size:.3g}px" y="{_TOP - 22}">{escape(title)}</text>',
        f'<g transform="translate(0 {_TOP})">',
    ]
    if one.mean is None:
        return [*out, *panels.empty(one.why, (room, _EMPTY), int(room / 6.5)), "</g>"]
    out.insert(1, f'<text class="s" y="{_TOP - 7}">seed {one.seed}</text>')
    out.append(f'<g class="q" transform="scale({room / max(one.mean.shape[:2]):.4f})">')
    for row, line in enumerate(one.mean):
        for colour, first, count in stretches(line):
            out.append(f'<path stroke="#{colour}" d="M{first} {row}.5h{count}"/>')
    # White ends on a light page, black on a dark one: a frame says where the image does.
    width, height = _size(one, room)
    edge = f'<rect class="e" width="{width:g}" height="{height:g}"/>'
    return [*out, "</g>", edge, "</g>"]


def stretches(line: NDArray[np.float64]) -> Iterator[tuple[str, int, int]]:
    """Neighbours of one colour in a row (C, 3): ``rrggbb``, the first, and how many."""
    return panels.stretches(
        "".join(f"{round(255 * part):02x}" for part in pixel) for pixel in line.tolist()
    )
