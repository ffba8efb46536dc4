"""A table whose cells are points of a figure, drawn as the figure: SVG, the same bytes each time.

Written by hand rather than by a plotting library: those put dates, random ids or fonts of the
machine into their files, and one file has to be readable on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from html import escape

from retable.report.axes import Axis, axis, extent
from retable.tables.aggregate import Cell, Table
from retable.tables.figure import Figure, Panel

Scale = Callable[[float], float]

_WIDTH = 860
_HEIGHT = 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 48, 52
_LEGEND = 22
_MARGIN = 14
_NARROW = 250  # height of panels in three columns or more

# Okabe and Ito's colours, told apart by people who confuse red and green; lighter on dark pages.
_COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9a4d"),
    ("#009e73", "#3fcf9f"),
    ("#b2568f", "#e69ac6"),
    ("#8a6d00", "#e0c23f"),
    ("#555555", "#b8b8b8"),
)
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 4")
_STYLE = (
    "text{{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#3d444d}}"
    ".h{{font-weight:600;fill:#1f2328}}.s{{font-size:11px}}"
    ".bg{{fill:#fff;stroke:#d1d9e0}}.g{{stroke:#e4e8ec}}.a{{stroke:#818b98}}"
    "polyline{{fill:none;stroke-width:1.8;stroke-linejoin:round}}.b{{stroke:none;opacity:.16}}"
    ".o{{fill:#fff;stroke-width:1.5}}{light}"
    "@media(prefers-color-scheme:dark){{text{{fill:#b7bdc8}}.h{{fill:#f0f6fc}}"
    ".bg{{fill:#0d1117;stroke:#3d444d}}.g{{stroke:#21262d}}.a{{stroke:#656c76}}.o{{fill:#0d1117}}"
    ".b{{opacity:.24}}{dark}}}"
)


@dataclass(frozen=True)
class _Point:
    x: float
    cell: Cell


def render(table: Table) -> str:
    """SVG of a table with ``spec.figure``: ours with a band, reported points as open marks."""
    figure = table.spec.figure
    assert figure is not None
    names = _lines(table, figure)
    keys, height_of_legend = _legend(table, figure, names)
    rows = -(-len(figure.panels) // figure.across)
    columns = min(len(figure.panels), figure.across)
    width = (_WIDTH - 2 * _MARGIN) / columns
    tall = _HEIGHT if columns <= 2 else _NARROW
    height = 2 * _MARGIN + height_of_legend + rows * tall
    axes = _axes(table, figure, names)
    body: list[str] = []
    for index, panel in enumerate(figure.panels):
        x = _MARGIN + index % figure.across * width
        y = _MARGIN + height_of_legend + index // figure.across * tall
        body.append(f'<g transform="translate({x:g} {y:g})">')
        body += _panel(table, figure, panel, names, (width, tall), axes[index])
        body.append("</g>")
    light, dark = (
        "".join(f".c{i}{{stroke:{c[k]};color:{c[k]}}}" for i, c in enumerate(_COLOURS))
        for k in (0, 1)
    )
    title, about = escape(table.spec.title), escape(_about(table))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}"'
            f' width="{_WIDTH}" height="{height:g}" role="img" aria-labelledby="t d">',
            f'<title id="t">{title}</title>',
            f'<desc id="d">{about}</desc>',
            f"<style>{_STYLE.format(light=light, dark=dark)}</style>",
            f'<rect class="bg" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1:g}" rx="6"/>',
            *keys,
            *body,
            "</svg>",
            "",
        ]
    )


def _about(table: Table) -> str:
    has = any(cell.reported is not None for cell in table.cells.values())
    reported = "; open marks: reported" if has else ""
    assert table.spec.figure is not None
    ours = f"Lines with filled marks: ours, band ± {table.spec.figure.band_text}"
    return f"{ours}{reported}; protocol {table.protocol}"


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
        if cell.mean is not None:
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
    x = axis(at, log="x" in figure.log, pad=True)
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
    middle = (_LEFT + right) / 2
    out.append(
        f'<text x="{middle:.1f}" y="{bottom + 37}" text-anchor="middle">{escape(figure.x)}</text>'
    )
    out.append(f'<text class="s" x="{_LEFT}" y="{_TOP - 13}">{escape(y_title)}</text>')
    for name in names:
        out += _band(figure, styles[name], points[name], px, py, y)
    for layer in (_line, _open):
        for name in names:
            out += layer(styles[name], points[name], px, py, y)
    return out


def _styles(figure: Figure, names: list[str]) -> dict[str, int]:
    """Number of the colour, dash and mark of each line; the lines of a group have one."""
    group = {name: title for title, members in figure.groups.items() for name in members}
    look = {name: (name in group, group.get(name, name)) for name in names}
    order = list(dict.fromkeys(look.values()))
    return {name: order.index(look[name]) for name in names}


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
            f'<polygon class="b c{_colour(index)}" fill="currentColor"'
            f' points="{" ".join(upper + lower)}"/>'
        )
    return out


def _line(index: int, points: list[_Point], px: Scale, py: Scale, y: Axis) -> list[str]:
    out: list[str] = []
    for run in _runs(points):
        at = [(px(p.x), py(y.inside(p.cell.mean or 0.0))) for p in run]
        if len(at) > 1:
            joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
            out.append(f'<polyline class="c{_colour(index)}"{_dash(index)} points="{joined}"/>')
        out += [_mark(index, a, b, 2.4, filled=True) for a, b in at]
    return out


def _open(index: int, points: list[_Point], px: Scale, py: Scale, y: Axis) -> list[str]:
    reported = [(p.x, float(p.cell.reported.value)) for p in points if p.cell.reported]
    return [_mark(index, px(x), py(y.inside(v)), 3.9, filled=False) for x, v in reported]


def _runs(points: list[_Point]) -> list[list[_Point]]:
    """Stretches of points that ours has numbers for; a gap is not drawn across."""
    runs: list[list[_Point]] = [[]]
    for point in points:
        if point.cell.mean is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _colour(index: int) -> int:
    return index % len(_COLOURS)


def _dash(index: int) -> str:
    dash = (
        _DASHES[index // len(_COLOURS) % len(_DASHES)] if index >= len(_COLOURS) else _DASHES[index]
    )
    return f' stroke-dasharray="{dash}"' if dash else ""


def _mark(index: int, x: float, y: float, size: float, *, filled: bool) -> str:
    """Circle, square, diamond, triangle, triangle downwards by line: not colour alone."""
    style = (
        f'class="c{_colour(index)}" fill="currentColor"'
        if filled
        else f'class="o c{_colour(index)}"'
    )
    s, d, t = size, 1.3 * size, 1.2 * size
    match index % 5:
        case 0:
            return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="{s:g}"/>'
        case 1:
            path = f"m{-s:g} {-s:g}h{2 * s:g}v{2 * s:g}h{-2 * s:g}z"
        case 2:
            path = f"m0 {-d:g}l{d:g} {d:g}l{-d:g} {d:g}l{-d:g} {-d:g}z"
        case 3:
            path = f"m0 {-t:g}l{t:g} {1.75 * t:g}h{-2 * t:g}z"
        case _:
            path = f"m0 {t:g}l{t:g} {-1.75 * t:g}h{-2 * t:g}z"
    return f'<path {style} d="M{x:.1f} {y:.1f}{path}"/>'


def _legend(table: Table, figure: Figure, names: list[str]) -> tuple[list[str], int]:
    """Keys of the lines, wrapped, and their height in all."""
    parts = table.spec.rows if figure.lines == "rows" else table.spec.columns
    out: list[str] = []
    x, y = float(_MARGIN + 12), _MARGIN + 12
    titles = {name: title for title, members in figure.groups.items() for name in members}
    styles = _styles(figure, names)
    entries = {styles[n]: titles.get(n, parts[n].title or n) for n in reversed(names)}
    for index, title in sorted(entries.items()):
        needed = 44 + 6.2 * len(title)
        if x + needed > _WIDTH - _MARGIN and x > _MARGIN + 12:
            x, y = float(_MARGIN + 12), y + _LEGEND
        out.append(
            f'<polyline class="c{_colour(index)}"{_dash(index)}'
            f' points="{x:.1f},{y - 4} {x + 26:.1f},{y - 4}"/>'
        )
        out.append(_mark(index, x + 13, y - 4, 2.8, filled=True))
        out.append(f'<text x="{x + 32:.1f}" y="{y}">{escape(title)}</text>')
        x += needed + 10
    out.append(
        f'<text class="s" x="{_MARGIN + 12}" y="{y + _LEGEND}">{escape(_about(table))}</text>'
    )
    return out, y + _LEGEND + 8 - _MARGIN
