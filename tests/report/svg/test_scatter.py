"""Scatter plots: rows stand at their coordinates, with what lies behind them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from msgspec import structs
from pydantic import ValidationError

from retable.report.svg import curves, scatter
from retable.runs.records import ResultRow
from retable.tables.aggregate import Table, build
from retable.tables.figure_spec import Figure, Pair, Scatter
from retable.tables.spec import TableSpec
from retable.tables.validate import problems
from support.mini import extra_root, planned

NS = "{http://www.w3.org/2000/svg}"
PAIR = {"title": "One & two", "x": "accuracy", "y": "drift"}


@pytest.fixture
def table(tmp_path, monkeypatch) -> Table:
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    return build(*planned())


def with_figure(table: Table, **figure) -> Table:
    content = {"kind": "scatter", "panels": [PAIR], **figure}
    spec = table.spec.model_copy(update={"figure": Scatter.model_validate(content)})
    return replace(table, spec=spec)


def drawn(table: Table, **figure) -> ET.Element:
    return ET.fromstring(curves.render(with_figure(table, **figure)))


def circles(root: ET.Element, kind: str) -> list[tuple[float, float]]:
    return [
        (float(c.get("cx", "")), float(c.get("cy", "")))
        for g in root.iter(f"{NS}g")
        for c in g.iter(f"{NS}circle")
        if (c.get("class") or "").split()[0] == kind
    ]


def test_a_row_stands_at_its_coordinates(table):
    # Short bars: longer ones would be cut off, lest they dwarf where the points lie.
    near = {c: replace(table.cells["same", c], std=1e-3) for c in ("accuracy", "drift")}
    cells = {**table.cells, **{("same", c): cell for c, cell in near.items()}}
    table = replace(table, cells=cells)
    root = drawn(table, only=["same"], panels=[PAIR, {"x": "drift", "y": "accuracy"}])
    (x, y), (_, up) = circles(root, "c0")
    first_reported, second_reported = circles(root, "o")
    accuracy, drift = (table.cells["same", c] for c in ("accuracy", "drift"))
    assert accuracy.mean != float(accuracy.reported.value)
    # To the right is more in the first panel, upwards in the second, where columns are exchanged.
    assert (x < first_reported[0]) == (accuracy.mean < float(accuracy.reported.value))
    assert (up > second_reported[1]) == (accuracy.mean < float(accuracy.reported.value))
    assert (y > first_reported[1]) == (drift.mean < float(drift.reported.value))
    bars = [p.get("d", "") for g in root.iter(f"{NS}g") for p in g.iter(f"{NS}path")
            if (p.get("class") or "") == "c0"]  # fmt: skip
    first = [tuple(map(float, re.findall(r"[\d.]+", d))) for d in bars[:2]]
    # A bar to the left and right, one up and down, both with the mark in their middle.
    assert (first[0][0] + first[0][2]) / 2 == pytest.approx(x, abs=0.11)
    assert first[0][1] == first[0][3] == pytest.approx(y, abs=0.11)
    assert (first[1][1] + first[1][3]) / 2 == pytest.approx(y, abs=0.11)


def test_guides_are_dashed_lines_and_no_marks(table):
    root = drawn(table, guides=["close"], only=["same"])
    dashed = [p.get("d", "") for p in root.iter(f"{NS}path") if p.get("stroke-dasharray")]
    assert len(dashed) == 2
    assert "V" in dashed[0]
    assert "H" in dashed[1]
    texts = {t.text for t in root.iter(f"{NS}text")}
    assert "Close" not in texts
    assert any("dashed: Close" in (t or "") for t in texts)


def test_the_cloud_is_what_the_first_run_says_by_step(table):
    columns = [table.spec.metrics[table.spec.columns[c].metric].key for c in ("accuracy", "drift")]
    first = next(c.run_keys[0] for c in table.cells.values() if c.run_keys)
    rows = [
        ResultRow(result_row="others", metric=key, step=step, value=step + number / 10)
        for step in (0, 1, 2)
        for number, key in enumerate(columns)
    ]
    lonely = ResultRow(result_row="others", metric=columns[0], step=9, value=1.0)
    record = structs.replace(table.records[first], results=[*rows, lonely])
    changed = replace(table, records={**table.records, first: record})
    figure = {"cloud": {"result_row": "others", "title": "the others"}, "only": ["same"]}
    shape = with_figure(changed, **figure).spec.figure
    assert isinstance(shape, Scatter)
    found = scatter.cloud(changed, shape, Pair.model_validate(PAIR))
    assert found == [(0.0, 0.1), (1.0, 1.1), (2.0, 2.1)]
    root = drawn(changed, **figure)
    assert len(circles(root, "a")) == 3
    assert any("dots: the others" in (t.text or "") for t in root.iter(f"{NS}text"))


def test_a_path_is_what_each_row_has_done_by_step(table):
    key = {c: table.spec.metrics[table.spec.columns[c].metric].key for c in ("accuracy", "drift")}
    records = dict(table.records)
    for number, name in enumerate(("same", "close")):
        first = table.cells[name, "accuracy"].run_keys[0]
        rows = [
            ResultRow(result_row="way", metric=key[column], step=step, value=value)
            for step in (1, 0)
            for column, value in (("accuracy", 10.0 * number + step), ("drift", 0.5 - step))
        ]
        records[first] = structs.replace(records[first], results=rows)
    changed = replace(table, records=records)
    figure = {"path": {"result_row": "way", "title": "the way"}, "only": ["same", "close"]}
    shape = with_figure(changed, **figure).spec.figure
    assert isinstance(shape, Scatter)
    pair = Pair.model_validate(PAIR)
    assert scatter.path(changed, shape, "same", pair) == [(0.0, 0.5), (1.0, -0.5)]
    assert scatter.path(changed, shape, "close", pair) == [(10.0, 0.5), (11.0, -0.5)]
    root = drawn(changed, **figure)
    lines = [p for g in root.iter(f"{NS}g") for p in g.iter(f"{NS}polyline")]
    assert [p.get("class") for p in lines] == ["c0", "c1"]
    ends = [[tuple(map(float, at.split(","))) for at in p.get("points", "").split()] for p in lines]
    assert all(before[0] < after[0] and before[1] < after[1] for before, after in ends)
    assert any("lines: the way, of one run each" in (t.text or "") for t in root.iter(f"{NS}text"))
    (without,) = [scatter.path(changed, shape, n, pair) for n in table.spec.rows if n == "better"]
    assert without == []


def test_a_figure_is_curves_unless_it_says_otherwise(table):
    base = table.spec.model_dump(exclude={"figure"})
    curve = {"x": "n", "panels": [{"points": {"accuracy": 1.0}}]}
    assert isinstance(TableSpec.model_validate({**base, "figure": curve}).figure, Figure)
    pairs = {"kind": "scatter", "panels": [PAIR]}
    assert isinstance(TableSpec.model_validate({**base, "figure": pairs}).figure, Scatter)
    with pytest.raises(ValidationError, match="scater"):
        TableSpec.model_validate({**base, "figure": {"kind": "scater", "panels": [PAIR]}})


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ({"only": ["sam"]}, (["figure", "only"], "no row 'sam'; did you mean 'same'?")),
        ({"guides": ["x"]}, (["figure", "guides"], "no row 'x'")),
        (
            {"panels": [{"x": "accuracy", "y": "drif"}]},
            (["figure", "panels", "0", "y"], "no column 'drif'; did you mean 'drift'?"),
        ),
    ],
)
def test_names_that_are_none_of_the_table(table, figure, said):
    (found,) = problems(with_figure(table, **figure).spec)
    assert found[0] == said[0]
    assert found[1].startswith(said[1])


def test_the_same_table_gives_the_same_bytes(table):
    first = curves.render(with_figure(table))
    assert curves.render(with_figure(table)) == first
    assert "protocol paper" in first
