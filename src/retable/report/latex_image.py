r"""Images as LaTeX: a rule for each stretch of pixels of one colour, as of heat maps."""

from __future__ import annotations

from retable.report.latex_escape import escape
from retable.report.latex_heat import MOST, rule
from retable.report.svg.image import stretches
from retable.tables.aggregate import Table
from retable.tables.heat_maps import HeatMap, heat_maps
from retable.tables.heat_spec import Image


def figure(table: Table, spec: Image, label: str) -> list[str]:
    """A float with all panels, and what is missing in words.

    Args:
        table: with its artefacts.
        spec: its figure.
        label: of the float.
    """
    found = heat_maps(table, spec)
    across = min(len(found), spec.across)
    lines = [r"\begin{figure}[tbp]", r"\centering"]
    for number, one in enumerate(found):
        last = number % across == across - 1 or number == len(found) - 1
        lines += [
            rf"\begin{{minipage}}[t]{{{0.98 / across:.3f}\linewidth}}\centering\scriptsize",
            *_panel(one),
            r"\end{minipage}" + (r"\par\medskip" if last else "%"),
        ]
    low, high = (f"{end:g}" for end in spec.limits)
    said = f"Each of one run; black is {low}, white {high}; protocol {table.protocol}"
    return [*lines, rf"\caption{{{escape(spec.title)}. {escape(said)}.}}", label, r"\end{figure}"]


def _panel(one: HeatMap) -> list[str]:
    title = escape(one.panel.title or f"{one.panel.row}, {one.panel.column}")
    if one.mean is None:
        return [rf"{title}\par\smallskip", rf"Nothing to show: {escape(one.why)}"]
    rows, columns, _ = one.mean.shape
    lines = [rf"{title} (seed {one.seed})\par\smallskip"]
    if max(rows, columns) > MOST:
        return [*lines, f"{rows} by {columns} pixels: too many to be drawn here"]
    lines += [
        r"\setlength{\unitlength}{0.88\linewidth}",
        rf"\divide\unitlength by {max(rows, columns)}",
        rf"\begin{{picture}}({columns},{rows})",
    ]
    for row, line in enumerate(one.mean):
        for colour, first, count in stretches(line):
            lines.append(rf"\put({first},{rows - 1 - row}){{{rule(colour, count, 1)}}}%")
    return [*lines, r"\end{picture}\par"]
