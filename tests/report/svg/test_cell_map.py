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


def test_rows_run_down_and_columns_to_the_right(table):
    columns = {"accuracy": "A", "drift": "D"}
    cells = {
        (row, column): replace(table.cells[row, "accuracy"], column=column, mean=mean, n=2,
                               n_planned=2)
        for (row, column), mean in {
            ("better", "accuracy"): 0.0, ("better", "drift"): 1.0,
            ("same", "accuracy"): 2.0, ("same", "drift"): 3.0,
        }.items()
    }  # fmt: skip
    root = drawn(replace(table, cells=cells), {**PANEL, "columns": columns})
    found = [box for box in root.iter(f"{NS}rect") if box.get("class") != "bg"]
    at = [(float(box.get("x", "")), float(box.get("y", ""))) for box in found]
    assert [x for x, _ in at] == [0, pytest.approx(at[1][0]), 0, at[1][0]]
    assert at[1][0] > 0
    assert [y for _, y in at] == [0, 0, 40, 40]
    levels = [colours.colour(colours.level(share)) for share in (0, 1 / 3, 2 / 3, 1)]
    assert [box.get("fill") for box in found] == levels
    place = {text.text: (float(text.get("x")), float(text.get("y"))) for text in labels(root)}
    assert place["A"][0] < place["D"][0]
    assert place["0.05"][1] < place["1e-05"][1]


def labels(root):
    return [text for text in root.iter(f"{NS}text") if text.get("x") is not None]


def test_what_the_protocol_does_not_run_is_left_out(table):
    cells = {place: cell for place, cell in table.cells.items() if place[0] != "same"}
    some = replace(table, cells=cells)
    assert len(boxes(drawn(some))) == 1
    assert "One & two: 1 × 1 cells" in curves.described(with_figure(some))
    none = with_figure(replace(table, cells={}))
    assert "not run under protocol" in curves.render(none)


def test_long_labels_and_many_columns_stay_within_the_picture(table):
    rows = {"better": "a row whose label is longer than a panel is wide, as some are"}
    panel = {**PANEL, "rows": rows, "columns": {"accuracy": "b" * 80}}
    root = drawn(table, *[panel] * 2)
    assert all(float(box.get("width", "")) > 0 for box in root.iter(f"{NS}rect"))


def test_a_number_is_printed_as_in_the_table(table):
    metric = table.spec.metrics["accuracy"]
    for change, said in (({"decimals": None}, "0.5"), ({"scientific": True}, "5.000e−01")):
        other = metric.model_copy(update=change)
        spec = table.spec.model_copy(update={"metrics": {**table.spec.metrics, "accuracy": other}})
        changed = with_mean(replace(table, spec=spec), "better", 0.5)
        assert any((text or "").startswith(said) for text in texts(drawn(changed))), change


def test_what_diverged_is_told_from_what_is_not_run(table):
    lost = with_mean(table, "better", None, ended={"diverged": 3})
    assert "diverged" in texts(drawn(lost))
    some = with_mean(table, "better", 0.5, n=2, n_planned=3, ended={"diverged": 1})
    assert "2 of 3 seeds, 1 diverged" in texts(drawn(some))


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
