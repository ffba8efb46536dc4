"""A table whose columns are the coordinates of its rows, drawn as scatter plots of two columns."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from retable.report.svg.axes import Axis, axis, extent
from retable.report.svg.canvas import MARGIN, WIDTH, colour, dash, legend, mark, page
from retable.tables.aggregate import Cell, Table
from retable.tables.figure_spec import Pair, Scatter, Steps

_HEIGHT = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 34, 46


@dataclass(frozen=True)
class _Frame:
    """Where a panel's axes lie on the page."""

    x: Axis
    y: Axis
    right: float
    bottom: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = _LEFT + self.x.share(self.x.inside(x)) * (self.right - _LEFT)
        return across, self.bottom - self.y.share(self.y.inside(y)) * (self.bottom - _TOP)


def render(table: Table, figure: Scatter) -> str:
    """SVG: ours filled, with bars and paths; reported points open, cloud small, guides dashed."""
    names = [n for n in table.spec.rows if n in (figure.only or table.spec.rows)]
    names = [n for n in names if n not in figure.guides and _is_drawn(table, figure, n)]
    looks = {i: table.spec.rows[n].title or n for i, n in enumerate(names)}
    keys, top = legend(looks, _about(table, figure), lines=figure.path is not None)
    columns = min(len(figure.panels), figure.across)
    width = (WIDTH - 2 * MARGIN) / columns
    body: list[str] = []
    for index, pair in enumerate(figure.panels):
        x = MARGIN + index % columns * width
        y = MARGIN + top + index // columns * _HEIGHT
        body.append(f'<g transform="translate({x:g} {y:g})">')
        body += _panel(table, figure, pair, names, width)
        body.append("</g>")
    rows = -(-len(figure.panels) // columns)
    height = 2 * MARGIN + top + rows * _HEIGHT
    return page(table.spec.title, _about(table, figure), height, [*keys, *body])


def cloud(table: Table, figure: Scatter, pair: Pair) -> list[tuple[float, float]]:
    """Points of the cloud by step: what the table's first run says of both metrics."""
    return [] if figure.cloud is None else _at_steps(table, [*table.cells], figure.cloud, pair)


def path(table: Table, figure: Scatter, name: str, pair: Pair) -> list[tuple[float, float]]:
    """Points of a row's path by step: what the row's first run says of both metrics."""
    places = [(name, column) for column in (pair.x, pair.y)]
    return [] if figure.path is None else _at_steps(table, places, figure.path, pair)


def _at_steps(
    table: Table, places: list[tuple[str, str]], steps: Steps, pair: Pair
) -> list[tuple[float, float]]:
    """Numbers that the first run of some cells gives at steps, for both metrics."""
    cells = [table.cells[place] for place in places if place in table.cells]
    first = next((cell.run_keys[0] for cell in cells if cell.run_keys), None)
    if first is None:
        return []
    keys = [table.spec.metrics[table.spec.columns[c].metric].key for c in (pair.x, pair.y)]
    found: list[dict[int, float]] = [{}, {}]
    for row in table.records[first].results:
        if row.result_row == steps.result_row and row.step is not None:
            for axis_of, key in zip(found, keys, strict=True):
                if row.metric == key:
                    axis_of[row.step] = row.value
    return [(x, found[1][step]) for step, x in sorted(found[0].items()) if step in found[1]]


def _is_drawn(table: Table, figure: Scatter, name: str) -> bool:
    return any(
        _ours(table, name, p) or _reported(table, name, p) is not None for p in figure.panels
    )


def _ours(table: Table, name: str, pair: Pair) -> tuple[Cell, Cell] | None:
    x, y = (table.cells.get((name, c)) for c in (pair.x, pair.y))
    return (x, y) if x and y and x.mean is not None and y.mean is not None else None


def _reported(table: Table, name: str, pair: Pair) -> tuple[float, float] | None:
    cells = [table.cells.get((name, c)) for c in (pair.x, pair.y)]
    values = [float(c.reported.value) for c in cells if c and c.reported]
    return (values[0], values[1]) if len(values) == 2 else None


def _about(table: Table, figure: Scatter) -> str:
    parts = [f"Filled marks: ours, bars ± {figure.band_text}"]
    if any(cell.reported for cell in table.cells.values()):
        parts.append("open marks: reported")
    if figure.cloud is not None:
        parts.append(f"dots: {figure.cloud.title}, of one run")
    if figure.path is not None:
        parts.append(f"lines: {figure.path.title}, of one run each")
    if figure.guides:
        titles = [table.spec.rows[name].title or name for name in figure.guides]
        parts.append(f"dashed: {', '.join(titles)}")
    return f"{'; '.join(parts)}; protocol {table.protocol}"


def _panel(table: Table, figure: Scatter, pair: Pair, names: list[str], width: float) -> list[str]:
    dots = cloud(table, figure, pair)
    drawn = [n for n in [*names, *figure.guides] if _ours(table, n, pair)]
    means = [tuple(c.mean or 0.0 for c in _ours(table, n, pair) or ()) for n in drawn]
    theirs = [p for n in names if (p := _reported(table, n, pair)) is not None]
    paths = {name: path(table, figure, name, pair) for name in names}
    seen = [*dots, *means, *theirs, *(point for found in paths.values() for point in found)]
    ends = [_ends(figure, *cells) for n in names if (cells := _ours(table, n, pair))]
    frame = _Frame(
        _axis([p[0] for p in seen], [x for found in ends for x in found[0]]),
        _axis([p[1] for p in seen], [y for found in ends for y in found[1]]),
        width - _RIGHT,
        _HEIGHT - _BOTTOM,
    )
    out = _axes(table, pair, frame)
    for name in figure.guides:
        if (cells := _ours(table, name, pair)) is not None:
            x, y = frame.at(cells[0].mean or 0.0, cells[1].mean or 0.0)
            dashed = 'class="a" stroke-dasharray="5 4"'
            out.append(f'<path {dashed} d="M{x:.1f} {_TOP}V{frame.bottom:g}"/>')
            out.append(f'<path {dashed} d="M{_LEFT} {y:.1f}H{frame.right:g}"/>')
    for point in dots:
        x, y = frame.at(*point)
        out.append(f'<circle class="a" fill="none" cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>')
    for index, found in enumerate(paths.values()):
        if len(found) > 1:
            joined = " ".join("{:.1f},{:.1f}".format(*frame.at(*point)) for point in found)
            out.append(f'<polyline class="c{colour(index)}"{dash(index)} points="{joined}"/>')
    for index, name in enumerate(names):
        if (cells := _ours(table, name, pair)) is not None:
            out += _point(figure, frame, index, *cells)
        if (reported := _reported(table, name, pair)) is not None:
            out.append(mark(index, *frame.at(*reported), 5.0, filled=False))
    return out


def _axis(middles: list[float], ends: list[float]) -> Axis:
    return axis(extent(middles, ends, log=False), log=False, pad=True)


def _ends(figure: Scatter, *cells: Cell) -> list[list[float]]:
    """Ends of the error bars along each axis."""
    return [[(c.mean or 0.0) + sign * figure.half(c.std, c.n) for sign in (-1, 1)] for c in cells]


def _point(figure: Scatter, frame: _Frame, index: int, across: Cell, up: Cell) -> list[str]:
    mean = (across.mean or 0.0, up.mean or 0.0)
    dx, dy = figure.half(across.std, across.n), figure.half(up.std, up.n)
    x, y = frame.at(*mean)
    bars = [(mean[0] - dx, mean[1], mean[0] + dx, mean[1])] if dx else []
    bars += [(mean[0], mean[1] - dy, mean[0], mean[1] + dy)] if dy else []
    out: list[str] = []
    for x0, y0, x1, y1 in bars:
        (a, b), (c, d) = frame.at(x0, y0), frame.at(x1, y1)
        out.append(f'<path class="c{colour(index)}" d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"/>')
    return [*out, mark(index, x, y, 3.4, filled=True)]


def _axes(table: Table, pair: Pair, frame: _Frame) -> list[str]:
    out = [f'<text class="h" x="{_LEFT}" y="{_TOP - 20}">{escape(pair.title)}</text>']
    for tick in frame.y.ticks:
        _, y = frame.at(frame.x.low, tick)
        out.append(f'<path class="g" d="M{_LEFT} {y:.1f}H{frame.right:g}"/>')
        out.append(
            f'<text class="s" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{frame.y.text(tick)}</text>"
        )
    for tick in frame.x.ticks:
        x, _ = frame.at(tick, frame.y.low)
        out.append(f'<path class="a" d="M{x:.1f} {frame.bottom:g}v4"/>')
        out.append(
            f'<text class="s" x="{x:.1f}" y="{frame.bottom + 16:g}" text-anchor="middle">'
            f"{frame.x.text(tick)}</text>"
        )
    out.append(f'<path class="a" d="M{_LEFT} {frame.bottom:g}H{frame.right:g}"/>')
    middle = (_LEFT + frame.right) / 2
    titles = [_title(table, column) for column in (pair.x, pair.y)]
    out.append(
        f'<text x="{middle:.1f}" y="{frame.bottom + 34:g}" text-anchor="middle">{titles[0]}</text>'
    )
    out.append(f'<text class="s" x="{_LEFT}" y="{_TOP - 6}">{titles[1]}</text>')
    return out


def _title(table: Table, column: str) -> str:
    return escape(table.spec.columns[column].title or column)
