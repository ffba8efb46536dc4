"""A table whose cells are points of a figure, drawn as the figure: SVG, the same bytes each time.

Written by hand rather than by a plotting library: those put dates, random ids or fonts of the
machine into their files, and one file has to be readable on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from html import escape

from retable.report.svg import cell_map, heat, image, scatter
from retable.report.svg.axes import Axis, axis, extent
from retable.report.svg.canvas import MARGIN, WIDTH, colour, dash, legend, mark, page
from retable.tables.aggregate import Cell, Table
from retable.tables.cell_map_spec import CellMap
from retable.tables.figure_spec import Figure, Panel, Scatter
from retable.tables.heat_spec import Heat, Image

Scale = Callable[[float], float]

_HEIGHT = 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 48, 52
_NARROW = 250  # height of panels in three columns or more


@dataclass(frozen=True)
class _Point:
    x: float
    cell: Cell


def render(table: Table) -> str:
    """SVG of a table with ``spec.figure``: ours with a band, reported points as open marks."""
    figure = table.spec.figure
    assert figure is not None
    if isinstance(figure, Scatter):
        return scatter.render(table, figure)
    if isinstance(figure, CellMap):
        return cell_map.render(table, figure)
    if isinstance(figure, Heat):
        return heat.render(table, figure)
    if isinstance(figure, Image):
        return image.render(table, figure)
    names = _lines(table, figure)
    keys, height_of_legend = legend(_entries(table, figure, names), _about(table, figure))
    rows = -(-len(figure.panels) // figure.across)
    columns = min(len(figure.panels), figure.across)
    width = (WIDTH - 2 * MARGIN) / columns
    tall = _HEIGHT if columns <= 2 else _NARROW
    height = 2 * MARGIN + height_of_legend + rows * tall
    axes = _axes(table, figure, names)
    body: list[str] = []
    for index, panel in enumerate(figure.panels):
        x = MARGIN + index % figure.across * width
        y = MARGIN + height_of_legend + index // figure.across * tall
        body.append(f'<g transform="translate({x:g} {y:g})">')
        body += _panel(table, figure, panel, names, (width, tall), axes[index])
        body.append("</g>")
    return page(table.spec.title, _about(table, figure), height, [*keys, *body])


def described(table: Table) -> str:
    """What heat maps and images show, in words; empty of other figures, whose table says it."""
    figure = table.spec.figure
    if isinstance(figure, CellMap):
        return cell_map.described(table, figure)
    if isinstance(figure, Heat):
        return heat.described(table, figure)
    return image.described(table, figure) if isinstance(figure, Image) else ""


def uprights(table: Table) -> str:
    """What the upright lines of a figure mark; empty of one that has none."""
    figure = table.spec.figure
    if not isinstance(figure, Figure) or figure.marks is None:
        return ""
    return table.spec.columns[figure.marks].title or figure.marks


def _about(table: Table, figure: Figure) -> str:
    has = any(cell.reported is not None for cell in table.cells.values())
    reported = "; open marks: reported" if has else ""
    means = f"Lines with filled marks: ours, band ± {figure.band_text}"
    ours = "Each line: a run of ours" if figure.runs else means
    title = uprights(table)
    marks = f"; upright lines: {title}" if title else ""
    return f"{ours}{reported}{marks}; protocol {table.protocol}"


def _lines(table: Table, figure: Figure) -> list[str]:
    """Names of the lines that some panel draws."""
    known = list(table.spec.rows if figure.lines == "rows" else table.spec.columns)
    return [n for n in known if any(_points(table, figure, p, n) for p in figure.panels)]


def _points(table: Table, figure: Figure, panel: Panel, name: str) -> list[_Point]:
    """Points of one line of a panel that ours or the paper has a number for, by x."""
    if panel.only is not None and name not in panel.only:
        return []
    places = {
        x: (name, other) if figure.lines == "rows" else (other, name)
        for other, x in panel.points.items()
    }
    cells = [(x, table.cells.get(place)) for x, place in sorted(places.items())]
    return [_Point(x, c) for x, c in cells if c and (c.mean is not None or c.reported)]


def _extent(figure: Figure, lines: Iterable[list[_Point]]) -> list[float]:
    middles: list[float] = []
    ends: list[float] = []
    for cell in (point.cell for points in lines for point in points):
        if cell.mean is not None and figure.runs:
            middles += cell.values.values()
        elif cell.mean is not None:
            middles.append(cell.mean)
            half = figure.half(cell.std, cell.n)
            ends += [cell.mean - half, cell.mean + half]
        if cell.reported is not None:
            middles.append(float(cell.reported.value))
    return extent(middles, ends, log="y" in figure.log)


def _metric(table: Table, figure: Figure, panel: Panel) -> str:
    name = next(iter(panel.points)) if figure.lines == "rows" else next(iter(table.spec.columns))
    return table.spec.columns[name].metric


def _axes(table: Table, figure: Figure, names: list[str]) -> list[Axis]:
    """A y axis for each panel: one for those that share it, where they can be compared."""
    lines = [[_points(table, figure, p, n) for n in names] for p in figure.panels]
    size = figure.across if figure.share == "row" else len(lines)
    starts = range(0, len(lines), size)
    return [a for i in starts for a in _shared(table, figure, slice(i, i + size), lines)]


def _shared(
    table: Table, figure: Figure, part: slice, lines: list[list[list[_Point]]]
) -> list[Axis]:
    log, chosen = "y" in figure.log, lines[part]
    own = [axis(_extent(figure, points), log=log) for points in chosen]
    joint = axis(_extent(figure, [p for points in chosen for p in points]), log=log)
    comparable = all(abs(joint.share(a.high) - joint.share(a.low)) > 0.4 for a in own)
    same = len({_metric(table, figure, panel) for panel in figure.panels[part]}) == 1
    # Panels abreast are asked to be compared, however flat one of them gets.
    return [joint] * len(own) if same and (comparable or figure.share == "row") else own


def _x_axis(figure: Figure, panel: Panel) -> Axis:
    at = sorted(set(panel.points.values()))
    x = axis(at, log="x" in figure.log_of(panel), pad=True)
    return x if figure.ticks == "round" else replace(x, ticks=at)


def _panel(
    table: Table,
    figure: Figure,
    panel: Panel,
    names: list[str],
    size: tuple[float, int],
    y: Axis,
) -> list[str]:
    points = {name: _points(table, figure, panel, name) for name in names}
    styles = _styles(figure, names)
    x = _x_axis(figure, panel)
    right, bottom = size[0] - _RIGHT, size[1] - _BOTTOM

    def px(value: float) -> float:
        return _LEFT + x.share(value) * (right - _LEFT)

    def py(value: float) -> float:
        return bottom - y.share(value) * (bottom - _TOP)

    metric = table.spec.metrics[_metric(table, figure, panel)]
    unit = f" ({metric.unit})" if metric.unit else ""
    y_title = figure.y or f"{metric.title or metric.key}{unit}"
    out = [f'<text class="h" x="{_LEFT}" y="{_TOP - 30}">{escape(panel.title)}</text>']
    for tick in y.ticks:
        at = py(tick)
        out.append(f'<path class="g" d="M{_LEFT} {at:.1f}H{right:g}"/>')
        out.append(
            f'<text class="s" x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">'
            f"{y.text(tick)}</text>"
        )
    for tick in x.ticks:
        at = px(tick)
        out.append(f'<path class="a" d="M{at:.1f} {bottom}v4"/>')
        out.append(
            f'<text class="s" x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">'
            f"{x.text(tick)}</text>"
        )
    out.append(f'<path class="a" d="M{_LEFT} {bottom}H{right:g}"/>')
    middle, x_title = (_LEFT + right) / 2, escape(panel.x or figure.x)
    out.append(f'<text x="{middle:.1f}" y="{bottom + 37}" text-anchor="middle">{x_title}</text>')
    out.append(f'<text class="s" x="{_LEFT}" y="{_TOP - 13}">{escape(y_title)}</text>')
    for name in (n for n in names if points[n]):
        out += _upright(table, figure, name, styles[name], px, (_TOP, bottom))
    if not figure.runs:
        for name in names:
            out += _band(figure, styles[name], points[name], px, py, y)
    for layer in (_each if figure.runs else _line, _open):
        for name in names:
            out += layer(styles[name], points[name], px, py, y)
    return out


def _styles(figure: Figure, names: list[str]) -> dict[str, int]:
    """Number of the colour, dash and mark of each line; the lines of a group have one."""
    group = {name: title for title, members in figure.groups.items() for name in members}
    look = {name: (name in group, group.get(name, name)) for name in names}
    order = list(dict.fromkeys(look.values()))
    return {name: order.index(look[name]) for name in names}


def _upright(
    table: Table, figure: Figure, name: str, index: int, px: Scale, ends: tuple[float, float]
) -> list[str]:
    """Where the number of a row's column ``marks`` is on the x axis."""
    cell = table.cells.get((name, figure.marks)) if figure.marks else None
    if cell is None or cell.mean is None:
        return []
    places = sorted(set(cell.values.values())) if figure.runs else [cell.mean]
    paths = [f"M{px(place):.1f} {ends[0]:g}V{ends[1]:g}" for place in places]
    look = f'class="c{colour(index)}" stroke-dasharray="3 3" fill="none"'
    return [f'<path {look} d="{path}"/>' for path in paths]


def _band(
    figure: Figure, index: int, points: list[_Point], px: Scale, py: Scale, y: Axis
) -> list[str]:
    out: list[str] = []
    for run in _runs(points):
        spread = [(p.x, p.cell.mean or 0.0, figure.half(p.cell.std, p.cell.n)) for p in run]
        if not any(s for _, _, s in spread) or len(spread) < 2:
            continue
        upper = [f"{px(x):.1f},{py(y.inside(m + s)):.1f}" for x, m, s in spread]
        lower = [f"{px(x):.1f},{py(y.inside(m - s)):.1f}" for x, m, s in reversed(spread)]
        out.append(
            f'<polygon class="b c{colour(index)}" fill="currentColor"'
            f' points="{" ".join(upper + lower)}"/>'
        )
    return out


def _line(index: int, points: list[_Point], px: Scale, py: Scale, y: Axis) -> list[str]:
    out: list[str] = []
    for run in _runs(points):
        at = [(px(p.x), py(y.inside(p.cell.mean or 0.0))) for p in run]
        if len(at) > 1:
            joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
            out.append(f'<polyline class="c{colour(index)}"{dash(index)} points="{joined}"/>')
        out += [mark(index, a, b, 2.4, filled=True) for a, b in at]
    return out


def _each(index: int, points: list[_Point], px: Scale, py: Scale, y: Axis) -> list[str]:
    """A line for each run; a gap is not drawn across."""
    out: list[str] = []
    for seed in sorted({seed for point in points for seed in point.cell.values}):
        runs: list[list[str]] = [[]]
        for point in points:
            value = point.cell.values.get(seed)
            if value is None:
                runs.append([])
            else:
                runs[-1].append(f"{px(point.x):.1f},{py(y.inside(value)):.1f}")
        look = f'class="c{colour(index)}"{dash(index)}'
        out += [f'<polyline {look} points="{" ".join(run)}"/>' for run in runs if len(run) > 1]
    return out


def _open(index: int, points: list[_Point], px: Scale, py: Scale, y: Axis) -> list[str]:
    reported = [(p.x, float(p.cell.reported.value)) for p in points if p.cell.reported]
    return [mark(index, px(x), py(y.inside(v)), 3.9, filled=False) for x, v in reported]


def _runs(points: list[_Point]) -> list[list[_Point]]:
    """Stretches of points that ours has numbers for; a gap is not drawn across."""
    runs: list[list[_Point]] = [[]]
    for point in points:
        if point.cell.mean is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _entries(table: Table, figure: Figure, names: list[str]) -> dict[int, str]:
    """Titles of the legend by number of the look."""
    parts = table.spec.rows if figure.lines == "rows" else table.spec.columns
    titles = {name: title for title, members in figure.groups.items() for name in members}
    styles = _styles(figure, names)
    return {styles[n]: titles.get(n, parts[n].title or n) for n in reversed(names)}
