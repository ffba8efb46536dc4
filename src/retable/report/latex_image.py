r"""Images as LaTeX: a rule for each stretch of pixels of one colour, as of heat maps."""

from __future__ import annotations

from retable.report.latex_escape import escape
from retable.report.latex_heat import MOST, floated, headed, opened, rule
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
    low, high = (f"{end:g}" for end in spec.limits)
    said = f"Each of one run; black is {low}, white {high}; protocol {table.protocol}"
    caption = f"{escape(spec.title)}. {escape(said)}."
    return floated([_panel(one) for one in heat_maps(table, spec)], spec.across, caption, label)


def _panel(one: HeatMap) -> list[str]:
    if one.mean is None:
        return headed(one)
    rows, columns, _ = one.mean.shape
    lines = headed(one, f"seed {one.seed}")
    if max(rows, columns) > MOST:
        return [*lines, f"{rows} by {columns} pixels: too many to be drawn here"]
    lines += opened(rows, columns)
    for row, line in enumerate(one.mean):
        for colour, first, count in stretches(line):
            lines.append(rf"\put({first},{rows - 1 - row}){{{rule(colour, count, 1)}}}%")
    frame = rf"\put(0,0){{\framebox({columns},{rows}){{}}}}"  # white ends where the page does not
    return [*lines, frame, r"\end{picture}\par"]
