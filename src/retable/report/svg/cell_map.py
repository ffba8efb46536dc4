"""Heat maps of a table's cells: our means as colours, with the numbers in them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from retable.report import formatting
from retable.report.svg import colours, panels
from retable.report.svg.canvas import MARGIN, WIDTH, page
from retable.tables.aggregate import Table
from retable.tables.cell_map_spec import CellMap, CellMapPanel
from retable.tables.cells import Cell

_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 14, 46, 46
_LETTER = 0.56
"""Width of a letter, of the size of the type."""

_TALL = 40
_LEAST = 4.5
"""Size of type below which a text is left out."""

_STYLE = f"<style>text.k{{fill:#000}}text.l{{fill:#fff}}{panels.STYLE}</style>"
_ABOUT = (
    "Each cell: our mean over seeds; colours from the least number of a panel (dark) to its"
    " greatest (bright); dashed: no number"
)


@dataclass(frozen=True)
class _Drawn:
    """A panel with what it shows: rows and columns of which the protocol runs something.

    Attributes:
        panel: as the table file has it.
        rows: labels.
        columns: labels.
        cells: of each row, by its columns; None where the protocol has no such cell.
        ends: cells of the least and the greatest mean; None where there is none.
    """

    panel: CellMapPanel
    rows: list[str]
    columns: list[str]
    cells: list[list[Cell | None]]
    ends: tuple[Cell, Cell] | None


def render(table: Table, figure: CellMap) -> str:
    """SVG: coloured cells with their numbers, each panel with its own scale."""
    columns = min(len(figure.panels), figure.across)
    width = (WIDTH - 2 * MARGIN) / columns
    y = MARGIN + 24.0
    about = f"{_ABOUT}; protocol {table.protocol}"
    body = [_STYLE, f'<text class="s" x="{MARGIN + 12}" y="{MARGIN + 12}">{escape(about)}</text>']
    drawn = [_drawn(table, panel) for panel in figure.panels]
    for start in range(0, len(drawn), columns):
        abreast = drawn[start : start + columns]
        for number, one in enumerate(abreast):
            body.append(f'<g transform="translate({MARGIN + number * width:g} {y:g})">')
            body += _panel(table, figure, one, width)
            body.append("</g>")
        y += _TOP + _TALL * max(1, *(len(one.cells) for one in abreast)) + _BOTTOM
    return page(table.spec.title, described(table, figure), y + MARGIN, body)


def described(table: Table, figure: CellMap) -> str:
    """What the picture shows, for who does not see it."""
    said: list[str] = []
    for one in (_drawn(table, panel) for panel in figure.panels):
        size = f"{len(one.rows)} × {len(one.columns)} cells"
        ends = [_number(table, end) for end in one.ends or ()]
        numbers = f"from {ends[0]} to {ends[1]}" if ends else "without a number yet"
        said.append(f"{one.panel.title}: {size}, {numbers}")
    return f"Heat maps over {figure.y} and {figure.x}; {'; '.join(said)}; protocol {table.protocol}"


def _drawn(table: Table, panel: CellMapPanel) -> _Drawn:
    rows = [r for r in panel.rows if any((r, c) in table.cells for c in panel.columns)]
    columns = [c for c in panel.columns if any((r, c) in table.cells for r in rows)]
    cells = [[table.cells.get((row, column)) for column in columns] for row in rows]
    known = [c for line in cells for c in line if c is not None and c.mean is not None]
    known.sort(key=lambda cell: cell.mean or 0.0)
    return _Drawn(
        panel,
        [str(panel.rows[row]) for row in rows],
        [str(panel.columns[column]) for column in columns],
        cells,
        (known[0], known[-1]) if known else None,
    )


def _number(table: Table, cell: Cell) -> str:
    """As the table prints it."""
    metric = table.spec.metrics[cell.metric]
    return formatting.minus(formatting.number(cell.mean or 0.0, metric, cell.reported))


def _panel(table: Table, figure: CellMap, one: _Drawn, width: float) -> list[str]:
    column = table.spec.columns[next(iter(one.panel.columns))]
    metric = table.spec.metrics[column.metric]
    longest = max((len(label) for label in one.rows), default=0)
    left = _LEFT + min(11 * _LETTER * longest, width / 3)
    across = (width - left - _RIGHT) / max(1, len(one.columns))
    unit = f" ({metric.unit})" if metric.unit else ""
    room, what = width - left, f"{metric.title or metric.key}{unit}"
    out = [
        _text(one.panel.title, (left, _TOP - 26), 12, room, 'class="h"'),
        _text(what, (left, _TOP - 9), 11, room, 'class="s"'),
        f'<g transform="translate({left:g} {_TOP})" shape-rendering="crispEdges">',
    ]
    if not one.cells:
        out += panels.empty(f"not run under protocol {table.protocol}", (room - _RIGHT, 40), 50)
    for row, line in enumerate(one.cells):
        for number, cell in enumerate(line):
            out += _cell(table, one, cell, (number * across, row * _TALL, across))
    return [*out, *_labels(figure, one, across, left), "</g>"]


def _text(text: str, at: tuple[float, float], size: float, room: float, look: str) -> str:
    """A text in the largest type that has room; none where nobody could read it."""
    size = min(size, room / (_LETTER * max(len(text), 1)))
    if size < _LEAST:
        return ""
    x, y = at
    style = f'style="font-size:{size:.3g}px"'
    return f'<text {look} {style} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _cell(
    table: Table, one: _Drawn, cell: Cell | None, at: tuple[float, float, float]
) -> list[str]:
    x, y, across = at
    middle, room = x + across / 2, across - 4
    if cell is None or cell.mean is None or one.ends is None:
        width = max(across - 2, 1)
        box = f'x="{x + 1:.1f}" y="{y + 1:g}" width="{width:.1f}" height="{_TALL - 2}"'
        why = "diverged" if cell is not None and cell.ended.get("diverged") else ""
        centred = 'class="s" text-anchor="middle"'
        return [f'<rect class="n" {box}/>', _text(why, (middle, y + 24), 11, room, centred)]
    low, high = (end.mean or 0.0 for end in one.ends)
    level = colours.level((cell.mean - low) / (high - low) if high > low else 0.5)
    ink = "l" if colours.is_dark(level) else "k"
    few = cell.n < cell.n_planned
    box = f'x="{x:.1f}" y="{y:g}" width="{across:.1f}" height="{_TALL}"'
    look = f'class="{ink}" text-anchor="middle"'
    place = middle, y + (18 if few else 24)
    out = [
        f'<rect {box} fill="{colours.colour(level)}"/>',
        _text(_number(table, cell), place, 12, room, look),
    ]
    if few:
        lost = cell.ended.get("diverged", 0)
        seeds = f"{cell.n} of {cell.n_planned} seeds" + (f", {lost} diverged" if lost else "")
        out.append(_text(seeds, (middle, y + 32), 10, room, look))
    return out


def _labels(figure: CellMap, one: _Drawn, across: float, left: float) -> list[str]:
    """Labels of rows and columns, and the titles of both."""
    width, height = across * max(1, len(one.columns)), _TALL * max(1, len(one.rows))
    turn = f'text-anchor="middle" transform="translate({14 - left:g} {height / 2:g}) rotate(-90)"'
    out = [
        _text(figure.x, (width / 2, height + 34), 12, width, 'text-anchor="middle"'),
        _text(figure.y, (0, 0), 12, height + 20, turn),
    ]
    for number, label in enumerate(one.columns):
        at = (number + 0.5) * across, height + 15
        out.append(_text(label, at, 11, across - 2, 'class="s" text-anchor="middle"'))
    for number, label in enumerate(one.rows):
        at = -6, (number + 0.5) * _TALL + 4
        out.append(_text(label, at, 11, left - 28, 'class="s" text-anchor="end"'))
    return out
