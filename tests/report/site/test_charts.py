"""Charts of the site whose lines are single runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retable.report import markdown
from retable.report.site import charts
from retable.report.site.inputs import ShownTable
from retable.tables.aggregate import build
from retable.tables.figure_spec import Figure
from support.mini import extra_root, planned

COLUMNS = {"accuracy": 1.0, "drift": 2.0, "cost": 3.0}


@pytest.fixture
def source(tmp_path, monkeypatch) -> ShownTable:
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    grid, records = planned()
    table = build(grid, records)
    panel = {"points": COLUMNS, "only": ["same", "close"]}
    figure = Figure.model_validate({"x": "x", "panels": [panel], "runs": True, "marks": "drift"})
    spec = table.spec.model_copy(update={"figure": figure})
    return ShownTable(grid, replace(table, spec=spec), records, lambda _: [])


def test_every_run_is_a_line_with_a_mark_of_its_own(source):
    (chart,) = charts.figure(source)
    ours = [line for line in chart["lines"] if line["kind"] == "ours"]
    titles = [source.table.spec.rows[row].title or row for row in ("same", "close")]
    assert [line["name"] for line in ours] == [titles[0]] * 3 + [titles[1]] * 3
    for row, lines in (("same", ours[:3]), ("close", ours[3:])):
        cells = [source.table.cells[row, column] for column in COLUMNS]
        for seed, line in enumerate(lines):
            assert line["x"] == [1.0, 2.0, 3.0]
            assert line["y"] == pytest.approx([cell.values[seed] for cell in cells])
            assert line["mark"] == pytest.approx(cells[1].values[seed])
            assert line["sd"] is None
    assert len({line["style"] for line in ours[:3]}) == 1
    assert ours[0]["style"] != ours[3]["style"]
    named = [name for name, _ in charts.keys(chart)]
    assert [name for name in named if not name.endswith("reported")] == titles, "each once"
    assert chart["band"] == ""


def test_its_picture_is_said_to_show_runs(source):
    assert "a line for each run of ours](" in markdown.render(source.table, picture="x.svg")
