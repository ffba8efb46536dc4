"""Heat maps of a table's cells: our means as colours, with the numbers in them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from retable.report.svg import colours, panels
from retable.report.svg.canvas import MARGIN, WIDTH, page
from retable.tables.aggregate import Table
from retable.tables.cell_map_spec import CellMap, CellMapPanel
from retable.tables.cells import Cell

_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 14, 46, 46
_LETTER = 6.4
"""Width of a letter of a label."""

_TALL = 40
_STYLE = f"<style>text.k{{fill:#000}}text.l{{fill:#fff}}{panels.STYLE}</style>"
_ABOUT = (
    "Each cell: our mean over seeds; colours from the least number of a panel (dark) to its"
    " greatest (bright); dashed: no number"
)


@dataclass(frozen=True)
class _Drawn:
    """A panel with what it shows.

    Attributes:
        panel: as the table file has it.
        cells: of each of its rows, by its columns; None where the protocol has no such cell.
        ends: least and greatest mean; None where there is none.
    """

    panel: CellMapPanel
    cells: list[list[Cell | None]]
    ends: tuple[float, float] | None


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
        y += _TOP + _TALL * max(len(one.cells) for one in abreast) + _BOTTOM
    return page(table.spec.title, described(table, figure), y + MARGIN, body)


def described(table: Table, figure: CellMap) -> str:
    """What the picture shows, for who does not see it."""
    said: list[str] = []
    for one in (_drawn(table, panel) for panel in figure.panels):
        size = f"{len(one.panel.rows)} × {len(one.panel.columns)} cells"
        ends = [_number(table, one.panel, end) for end in one.ends or ()]
        numbers = f"from {ends[0]} to {ends[1]}" if ends else "without a number yet"
        said.append(f"{one.panel.title}: {size}, {numbers}")
    return f"Heat maps over {figure.y} and {figure.x}; {'; '.join(said)}; protocol {table.protocol}"


def _drawn(table: Table, panel: CellMapPanel) -> _Drawn:
    cells = [[table.cells.get((row, column)) for column in panel.columns] for row in panel.rows]
    means = [c.mean for line in cells for c in line if c is not None and c.mean is not None]
    return _Drawn(panel, cells, (min(means), max(means)) if means else None)


def _number(table: Table, panel: CellMapPanel, mean: float) -> str:
    """As the table prints it."""
    column = table.spec.columns[next(iter(panel.columns))]
    return f"{mean:.{table.spec.metrics[column.metric].decimals}f}".replace("-", "−")


def _panel(table: Table, figure: CellMap, one: _Drawn, width: float) -> list[str]:
    column = table.spec.columns[next(iter(one.panel.columns))]
    metric = table.spec.metrics[column.metric]
    left = _LEFT + _LETTER * max(len(str(label)) for label in one.panel.rows.values())
    across = (width - left - _RIGHT) / len(one.panel.columns)
    unit = f" ({metric.unit})" if metric.unit else ""
    out = [
        f'<text class="h" x="{left:g}" y="{_TOP - 26}">{escape(one.panel.title)}</text>',
        f'<text class="s" x="{left:g}" y="{_TOP - 9}">{escape(metric.title or metric.key)}'
        f"{escape(unit)}</text>",
        f'<g transform="translate({left:g} {_TOP})" shape-rendering="crispEdges">',
    ]
    for row, line in enumerate(one.cells):
        for number, cell in enumerate(line):
            out += _cell(table, one, cell, (number * across, row * _TALL, across))
    return [*out, *_labels(figure, one.panel, across, left), "</g>"]


def _cell(
    table: Table, one: _Drawn, cell: Cell | None, at: tuple[float, float, float]
) -> list[str]:
    x, y, across = at
    if cell is None or cell.mean is None or one.ends is None:
        box = f'x="{x + 1:.1f}" y="{y + 1:g}" width="{across - 2:.1f}" height="{_TALL - 2}"'
        return [f'<rect class="n" {box}/>']
    low, high = one.ends
    level = colours.level((cell.mean - low) / (high - low) if high > low else 0.5)
    ink = "l" if colours.is_dark(level) else "k"
    middle, few = x + across / 2, cell.n < cell.n_planned
    box = f'x="{x:.1f}" y="{y:g}" width="{across:.1f}" height="{_TALL}"'
    text = _number(table, one.panel, cell.mean)
    out = [
        f'<rect {box} fill="{colours.colour(level)}"/>',
        f'<text class="{ink}" x="{middle:.1f}" y="{y + (18 if few else 24)}"'
        f' text-anchor="middle">{text}</text>',
    ]
    if few:
        out.append(
            f'<text class="{ink}" style="font-size:10px" x="{middle:.1f}" y="{y + 32}"'
            f' text-anchor="middle">{cell.n} of {cell.n_planned} seeds</text>'
        )
    return out


def _labels(figure: CellMap, panel: CellMapPanel, across: float, left: float) -> list[str]:
    """Labels of rows and columns, and the titles of both."""
    width, height = across * len(panel.columns), _TALL * len(panel.rows)
    turn = f'transform="translate({-left + 14:g} {height / 2:g}) rotate(-90)"'
    out = [
        f'<text x="{width / 2:.1f}" y="{height + 34}" text-anchor="middle">'
        f"{escape(figure.x)}</text>",
        f'<text {turn} text-anchor="middle">{escape(figure.y)}</text>',
    ]
    for number, label in enumerate(panel.columns.values()):
        out.append(
            f'<text class="s" x="{(number + 0.5) * across:.1f}" y="{height + 15}"'
            f' text-anchor="middle">{escape(str(label))}</text>'
        )
    for number, label in enumerate(panel.rows.values()):
        y = (number + 0.5) * _TALL + 4
        out.append(
            f'<text class="s" x="-6" y="{y:g}" text-anchor="end">{escape(str(label))}</text>'
        )
    return out
