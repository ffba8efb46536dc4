"""Heat maps of cells: which colour a number has, what stands in a cell, what is refused."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from pydantic import ValidationError

from retable.report import markdown
from retable.report.svg import cell_map, colours, curves
from retable.tables.aggregate import Table, build
from retable.tables.cell_map_spec import CellMap
from retable.tables.validate import problems
from support.mini import extra_root, planned

NS = "{http://www.w3.org/2000/svg}"
PANEL = {"title": "One & two", "rows": {"better": 0.05, "same": 1e-5}, "columns": {"accuracy": "A"}}


@pytest.fixture
def table(tmp_path, monkeypatch) -> Table:
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    return build(*planned())


def with_figure(table: Table, *panels) -> Table:
    content = {"kind": "cells", "x": "width", "y": "rate", "panels": [*panels] or [PANEL]}
    spec = table.spec.model_copy(update={"figure": CellMap.model_validate(content)})
    return replace(table, spec=spec)


def with_mean(table: Table, row: str, mean: float | None, **changes) -> Table:
    cell = replace(table.cells[row, "accuracy"], mean=mean, **changes)
    return replace(table, cells={**table.cells, (row, "accuracy"): cell})


def drawn(table: Table, *panels) -> ET.Element:
    return ET.fromstring(curves.render(with_figure(table, *panels)))


def boxes(root: ET.Element) -> list[str | None]:
    """Colours of the cells in their order; None where a cell has no number."""
    found = [box for box in root.iter(f"{NS}rect") if box.get("class") != "bg"]
    return [box.get("fill") for box in found]


def texts(root: ET.Element) -> list[str | None]:
    return [text.text for text in root.iter(f"{NS}text")]


def test_the_least_is_dark_and_the_greatest_bright(table):
    table = with_mean(with_mean(table, "better", 1.0), "same", 0.5)
    rows = {"better": "b", "same": "s", "worse": "w"}
    found = boxes(drawn(with_mean(table, "worse", 0.75), {**PANEL, "rows": rows}))
    assert found == [colours.colour(255), colours.colour(0), colours.colour(colours.level(0.5))]
    # A panel has its own ends; of one number alone the colour is that of the middle.
    single = {**PANEL, "rows": {"same": "s"}}
    assert boxes(drawn(table, single))[0] == colours.colour(colours.level(0.5))


def test_numbers_stand_as_the_table_prints_them(table):
    table = with_mean(with_mean(table, "better", -0.51234), "same", 0.1)
    decimals = table.spec.metrics["accuracy"].decimals
    found = texts(drawn(table))
    assert f"−{0.51234:.{decimals}f}" in found
    assert f"{0.1:.{decimals}f}" in found
    assert {"One & two", "0.05", "1e-05", "A", "width", "rate"} <= {*found}
    assert not any("seeds" in (text or "") for text in found[1:])


def test_a_cell_says_which_seeds_are_missing_and_is_dashed_without_any(table):
    table = with_mean(table, "better", 0.5, n=1, n_planned=3)
    found = drawn(with_mean(table, "same", None))
    assert "1 of 3 seeds" in texts(found)
    assert [box is None for box in boxes(found)] == [False, True]
    empty = drawn(with_mean(with_mean(table, "same", None), "better", None))
    assert boxes(empty) == [None, None]


def test_what_it_shows_is_said_for_who_does_not_see_it(table):
    table = with_mean(with_mean(table, "better", 0.5), "same", 0.1)
    shown = with_figure(table)
    said = cell_map.described(shown, shown.spec.figure)
    decimals = table.spec.metrics["accuracy"].decimals
    ends = f"from {0.1:.{decimals}f} to {0.5:.{decimals}f}"
    assert said.startswith(f"Heat maps over rate and width; One & two: 2 × 1 cells, {ends}; ")
    assert curves.described(shown) == said
    assert ends in markdown.render(shown, picture="figure.svg")
    gone = with_figure(with_mean(with_mean(table, "same", None), "better", None))
    assert "2 × 1 cells, without a number yet" in curves.described(gone)


@pytest.mark.parametrize(
    ("change", "where", "said"),
    [
        ({"rows": {"bettre": "b"}}, "rows.bettre", "no row 'bettre'; did you mean 'better'?"),
        ({"columns": {"acuracy": "a"}}, "columns.acuracy", "no column 'acuracy'; did you mean"),
        ({"columns": {"accuracy": 1, "drift": 2}}, "columns", "which have no scale of colours in"),
    ],
)
def test_names_and_metrics_are_checked_when_the_file_is_read(table, change, where, said):
    [(path, message)] = problems(with_figure(table, {**PANEL, **change}).spec)
    assert ".".join(path) == f"figure.panels.0.{where}"
    assert said in message


@pytest.mark.parametrize("change", [{"rows": {}}, {"columns": {"accuracy": [1]}}, {"title": ""}])
def test_panels_that_cannot_be_read(table, change):
    with pytest.raises(ValidationError):
        with_figure(table, {**PANEL, **change})
