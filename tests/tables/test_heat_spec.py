"""Heat maps in a table file: what is read, and what is refused with file and line."""

from __future__ import annotations

import re

import pytest

from retable.tables import spec
from retable.tables.heat_spec import Heat
from retable.util.errors import UserError
from support import heat

PANEL = "{title: fast, row: fast, column: accuracy, array: half}"


def loaded(text: str):
    with heat.files(text) as file:
        return spec.load_file(file)


def test_a_figure_of_kind_heat_is_read():
    figure = loaded(heat.TABLE.replace("  x: class\n", "  limits: [-1, 1]\n")).figure
    assert isinstance(figure, Heat)
    assert (figure.limits, figure.x, figure.y, figure.across) == ([-1, 1], "", "class", 2)
    assert [panel.array for panel in figure.panels] == ["all", "half"]


def test_panels_may_be_a_pattern():
    pattern = '{over: {row: [slow, fast]}, row: "{row}", column: accuracy, array: all}'
    figure = loaded(heat.TABLE.replace(PANEL, pattern)).figure
    assert [panel.row for panel in figure.panels] == ["slow", "slow", "fast"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("row: fast,", "row: fats,", "figure.panels.1.row: no row 'fats'; did you mean 'fast'?"),
        ("column: accuracy, array: half", "column: acuracy, array: half",
         "figure.panels.1.column: no column 'acuracy'; did you mean 'accuracy'?"),
        ("row: fast,", "row: quoted,", "figure.panels.1: row 'quoted' is not run in column 'acc"),
        ("artifact: cosines", "artifact: ../x", "figure.artifact: '../x' is no artefact's name"),
        ("artifact: cosines", "artefact: cosines", "figure.artefact: unknown field; did you mean"),
        ("  x: class", "  xx: class", "figure.xx: unknown field"),
        ("  x: class", "  band: std", "figure.band: unknown field"),
        ("array: half", "array: half, arry: a",
         "figure.panels.1.arry: unknown field; did you mean 'array'?"),
        (", array: half", "", "figure.panels.1.array: is missing"),
        ("  x: class", "  limits: [1, 0]", "figure.limits: [1, 0]: expected the lower end first"),
        ("  x: class", "  limits: [1]", "figure.limits: [1] is not valid"),
        ("kind: heat", "kind: heatmap", "figure.kind: heatmap is not valid; did you mean 'heat'?"),
        ("kind: heat", "kind: bars", "figure.kind: bars is not valid; valid: cells, curves, heat,"),
    ],
)  # fmt: skip
def test_refusals(old, new, said):
    text = heat.TABLE.replace(old, new)
    assert text != heat.TABLE
    with pytest.raises(UserError, match=r"heat\.yaml, line \d+: " + re.escape(said)):
        loaded(text)


def test_a_column_may_have_the_name_of_a_kind():
    text = heat.TABLE.replace("  other: {metric: accuracy,", "  heat: {metric: acuracy,")
    with pytest.raises(UserError, match=r"columns\.heat\.metric: no metric 'acuracy'"):
        loaded(text)
    text = heat.TABLE.replace("  other: {metric: accuracy,", "  heat: {metric: 3,")
    with pytest.raises(UserError, match=r"columns\.heat\.metric: 3 is not valid"):
        loaded(text)
