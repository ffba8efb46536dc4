"""Figures: the numbers of the table stand where the axes say, whatever they are."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from retable.report.svg import curves
from retable.report.svg.axes import axis, extent
from retable.report.svg.canvas import colour, dash
from retable.tables.aggregate import Table, build
from retable.tables.figure_spec import Figure
from support.mini import extra_root, planned

NS = "{http://www.w3.org/2000/svg}"
finite = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.fixture
def table(tmp_path, monkeypatch) -> Table:
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    return build(*planned())


def drawn(table: Table, **figure) -> ET.Element:
    content = {
        "x": "rate",
        "panels": [{"points": {"accuracy": 1.0, "drift": 2.0, "cost": 3.0}, "only": ["same"]}],
        **figure,
    }
    spec = table.spec.model_copy(update={"figure": Figure.model_validate(content)})
    return ET.fromstring(curves.render(replace(table, spec=spec)))


def marks(root: ET.Element, kind: str) -> list[tuple[float, float]]:
    """Places of circles (the first line's marks) within the panel."""
    return [
        (float(c.get("cx", "")), float(c.get("cy", "")))
        for g in root.iter(f"{NS}g")
        for c in g.iter(f"{NS}circle")
        if ("o" in (c.get("class") or "").split()) == (kind == "open")
    ]


def test_ours_and_reported_stand_where_the_axis_says(table):
    root = drawn(table)
    ours, reported = marks(root, "filled"), marks(root, "open")
    assert len(ours) == len(reported) == 3
    cells = [table.cells["same", c] for c in ("accuracy", "drift", "cost")]
    values = [c.mean for c in cells] + [float(c.reported.value) for c in cells]
    heights = [y for _, y in ours + reported]
    # One straight line from value to height, downwards on the page.
    top, bottom = values[0], values[1]
    scale = (heights[0] - heights[1]) / (top - bottom)
    assert scale < 0
    for value, height in zip(values, heights, strict=True):
        assert height == pytest.approx(heights[1] + scale * (value - bottom), abs=0.11)
    assert [x for x, _ in ours] == [x for x, _ in reported]
    assert ours[1][0] - ours[0][0] == pytest.approx(ours[2][0] - ours[1][0], abs=0.11)


def test_the_band_is_one_standard_deviation_up_and_down(table):
    root = drawn(table, panels=[{"points": {"accuracy": 1.0, "drift": 2.0}, "only": ["close"]}])
    (band,) = list(root.iter(f"{NS}polygon"))
    points = [tuple(map(float, p.split(","))) for p in band.get("points", "").split()]
    (first, second) = marks(root, "filled")
    assert len(points) == 4
    assert (points[0][1] + points[3][1]) / 2 == pytest.approx(first[1], abs=0.11)
    assert (points[1][1] + points[2][1]) / 2 == pytest.approx(second[1], abs=0.11)
    assert points[0][1] < first[1] < points[3][1]


def test_lines_may_be_columns_and_a_gap_is_not_drawn_across(table):
    points = {"same": 1.0, "close": 2.0, "quoted": 3.0, "unsure": 4.0, "better": 5.0}
    root = drawn(table, lines="columns", panels=[{"points": points, "only": ["accuracy"]}])
    lines = [p for g in root.iter(f"{NS}g") for p in g.iter(f"{NS}polyline")]
    assert [len(p.get("points", "").split()) for p in lines] == [2, 2]
    assert len(marks(root, "filled")) == 4
    assert len(marks(root, "open")) == 5  # the quoted row has a reported value only


def test_logarithmic_axes_take_what_is_not_positive(table):
    cell = table.cells["same", "cost"]
    zero = replace(cell, mean=0.0, std=1.0)
    root = drawn(replace(table, cells={**table.cells, ("same", "cost"): zero}), log=["x", "y"])
    assert len(marks(root, "filled")) == 3
    assert all(math.isfinite(y) for _, y in marks(root, "filled"))


def test_a_panel_may_have_an_x_axis_of_its_own(table):
    """Titled and logarithmic as it says; the y axis stays the figure's."""
    points = {"accuracy": 1.0, "drift": 10.0, "cost": 100.0}
    own = {"points": points, "only": ["same"], "x": "size of a batch", "log": ["x"]}
    root = drawn(table, log=["y"], panels=[{"points": points, "only": ["same"]}, own])
    across = [[x for x, _ in marks(group, "filled")] for group in root.findall(f"{NS}g")]
    (first, second) = [line for line in across if line]
    assert second[1] - second[0] == pytest.approx(second[2] - second[1], abs=0.11)
    assert first[2] - first[1] == pytest.approx(10 * (first[1] - first[0]), rel=0.05)
    titles = [t.text for t in root.iter(f"{NS}text") if t.text in ("rate", "size of a batch")]
    assert titles == ["rate", "size of a batch"]
    figure = Figure.model_validate({"x": "rate", "log": ["x", "y"], "panels": [own]})
    assert figure.log_of(figure.panels[0]) == ["x", "y"]
    flat = figure.panels[0].model_copy(update={"log": []})
    assert figure.log_of(flat) == ["y"]


def test_the_same_table_gives_the_same_bytes_without_date_or_address(table):
    first = curves.render(table)
    assert curves.render(table) == first
    assert first.endswith("</svg>\n")
    outside = first.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|<script|@import|url\(|\b20\d\d-", outside)
    root = ET.fromstring(first)
    assert root.get("role") == "img"
    assert root.find(f"{NS}title").text == table.spec.title  # escaped, hence read back as it was
    assert "prefers-color-scheme:dark" in first
    names = {t.text for t in root.iter(f"{NS}text")}
    assert any(name.endswith("open marks: reported; protocol paper") for name in names)
    assert {"Same", "Close", "*Better* [1](x)", "rate", "Accuracy"} <= names


def test_panels_share_an_axis_only_where_they_can_be_compared(table):
    def tick_labels(**figure) -> list[list[str]]:
        root = drawn(table, **figure)
        return [
            [t.text for t in g.iter(f"{NS}text") if t.get("text-anchor") == "end"]
            for g in root.iter(f"{NS}g")
        ]

    def panels(*rows: str):
        return [{"points": {"accuracy": 1.0}, "only": [r]} for r in rows]

    both = tick_labels(lines="rows", panels=panels("same", "unsure"))
    assert both[0] != both[1]  # a tenth of a point beside seven
    other = tick_labels(panels=[{"points": {"accuracy": 1.0}}, {"points": {"drift": 1.0}}])
    assert other[0] != other[1]
    alike = tick_labels(panels=panels("better", "better"))
    assert alike[0] == alike[1]


@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_its_values_with_a_few_round_ticks(values, pad):
    found = axis(values, log=False, pad=pad)
    assert found.low < found.high
    slack = 1e-6 * (found.high - found.low)
    assert found.low - slack <= min(values)
    assert max(values) <= found.high + slack
    assert 2 <= len(found.ticks) <= 9
    if max(map(abs, values)) < 100 * (max(values) - min(values)):
        assert len({found.text(t) for t in found.ticks}) == len(found.ticks)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20))
def test_a_logarithmic_axis_holds_its_values(values):
    found = axis(values, log=True)
    assert 0 < found.low <= min(values) * (1 + 1e-9)
    assert max(values) <= found.high * (1 + 1e-9)
    assert all(0 <= found.share(v) <= 1 + 1e-9 for v in values)


@example([0.0, 1.0], [-1.0])  # no value is below zero, a band would be
@given(st.lists(finite, min_size=1, max_size=9), st.lists(finite, max_size=9))
def test_wide_bands_do_not_dwarf_the_lines(middles, ends):
    kept = extent(middles, ends, log=False)
    assert min(kept) <= min(middles)
    assert max(kept) >= max(middles)
    span = max(middles) - min(middles)
    if span:
        assert max(kept) - min(kept) <= 2 * span * (1 + 1e-9) + 1e-9
    if min(middles) >= 0:
        assert min(kept) >= 0


def test_lines_of_a_group_look_alike_and_have_one_entry(table):
    panels = [{"points": {"accuracy": 1.0, "drift": 2.0}, "only": [r]} for r in ("same", "close")]
    alone = drawn(table, panels=panels)
    both = drawn(table, panels=panels, groups={"One & all": ["same", "close"]})

    def colours(root: ET.Element) -> list[str]:
        return [p.get("class", "") for g in root.iter(f"{NS}g") for p in g.iter(f"{NS}polyline")]

    def names(root: ET.Element) -> list[str]:
        return [t.text or "" for t in root.iter(f"{NS}text")]

    assert colours(alone) == ["c0", "c1"]
    assert colours(both) == ["c0", "c0"]
    assert names(both).count("One & all") == 1
    assert not {"Same", "Close"} & set(names(both))


def test_two_lines_of_a_group_cannot_stand_in_one_panel():
    content = {
        "x": "rate",
        "groups": {"g": ["same", "close"]},
        "panels": [{"points": {"accuracy": 1.0}}],
    }
    with pytest.raises(ValidationError, match="draws 'same' and 'close' of 'g'"):
        Figure.model_validate(content)
    content["panels"] = [{"points": {"accuracy": 1.0}, "only": ["same"]}]
    Figure.model_validate(content)
    with pytest.raises(ValidationError, match="'same' stands in two"):
        Figure.model_validate({**content, "groups": {"g": ["same"], "h": ["same"]}})


def test_a_band_of_standard_errors_is_narrower_by_the_root_of_n(table):
    def height(band: str) -> float:
        panel = {"points": {"accuracy": 1.0, "drift": 2.0}, "only": ["close"]}
        root = drawn(table, band=band, panels=[panel, {**panel, "only": ["unsure"]}])
        points = [p.get("points", "").split() for p in root.iter(f"{NS}polygon")]
        first = [tuple(map(float, p.split(","))) for p in points[0]]
        return first[3][1] - first[0][1]

    n = table.cells["close", "accuracy"].n
    figure = Figure.model_validate({"x": "x", "panels": [{"points": {"a": 1}}], "band": "sem95"})
    assert figure.half(2.0, n) == pytest.approx(2 * 1.96 / math.sqrt(n))
    assert figure.half(None, 1) == 0
    # The axis follows the narrower band, so heights compare only roughly.
    assert height("sem95") != height("std")


def test_panels_abreast_share_an_axis_row_by_row(table):
    def panel(row: str) -> dict:
        return {"points": {"accuracy": 1.0}, "only": [row]}

    rows = [panel(r) for r in ("same", "close", "unsure", "better")]
    root = drawn(table, share="row", across=2, panels=rows)
    labels = [
        [t.text for t in g.iter(f"{NS}text") if t.get("text-anchor") == "end"]
        for g in root.iter(f"{NS}g")
    ]
    assert labels[0] == labels[1]
    assert labels[2] == labels[3]
    assert labels[0] != labels[2]
    places = [g.get("transform", "") for g in root.iter(f"{NS}g")]
    assert len({p.split()[0] for p in places}) == 2
    assert len({p.split()[1] for p in places}) == 2


def test_ticks_stand_at_the_points_where_asked(table):
    points = {"accuracy": 250.0, "drift": 500.0, "cost": 1000.0}
    root = drawn(table, ticks="points", panels=[{"points": points}])
    texts = [t.text for t in root.iter(f"{NS}text") if t.get("text-anchor") == "middle"]
    assert texts[:3] == ["250", "500", "1000"]


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.6), (0.31, 0.44), (3.0, 8.0), (1.0, 900.0)])
def test_a_logarithmic_axis_has_two_ticks_or_more(low, high):
    assert len(axis([low, high], log=True).ticks) >= 2


def test_numbers_of_a_column_are_places_on_the_x_axis(table):
    at = table.cells["same", "cost"].mean
    assert at is not None
    points = {"accuracy": at, "drift": 2 * at}
    own = {"panels": [{"points": points, "only": ["same"]}], "marks": "cost"}
    root = drawn(table, **own)
    [upright] = [p for p in root.iter(f"{NS}path") if p.get("stroke-dasharray")]
    place = re.fullmatch(r"M(\S+) \d+V\d+", upright.get("d", ""))
    assert place is not None
    assert float(place[1]) == min(x for x, _ in marks(root, "filled"))
    described = root.findtext(f"{NS}desc") or ""
    assert f"; upright lines: {table.spec.columns['cost'].title}; protocol" in described
    other = drawn(table, **{**own, "panels": [{"points": points, "only": ["better"]}]})
    assert not [p for p in other.iter(f"{NS}path") if p.get("stroke-dasharray")]  # has no cost


def test_looks_differ_where_colours_begin_again():
    assert len({(colour(i), dash(i)) for i in range(36)}) == 36


def test_marks_are_of_rows():
    with pytest.raises(ValidationError, match="marks: only where rows are lines"):
        Figure.model_validate(
            {"x": "x", "lines": "columns", "marks": "a", "panels": [{"points": {"a": 1}}]}
        )


def test_every_run_has_a_line_and_a_mark_of_its_own(table):
    columns = ("accuracy", "drift", "cost")
    cells = dict(table.cells)
    place = ("same", "drift")
    gap = min(cells[place].values)  # one run without a number: its line has a gap
    left = {seed: v for seed, v in cells[place].values.items() if seed != gap}
    cells[place] = replace(cells[place], values=left)
    root = drawn(replace(table, cells=cells), runs=True, marks="drift")
    lines = [p.get("points", "").split() for p in root.iter(f"{NS}polyline")]
    _, *lines = [[tuple(map(float, at.split(","))) for at in one] for one in lines]  # the legend's
    assert len(lines) == len(left), "what is one point alone is no line"
    assert all(len(one) == len(columns) for one in lines)
    heights = [y for one in lines for _, y in one]
    values = [cells["same", c].values[seed] for seed in sorted(left) for c in columns]
    a, b = min(values), max(values)
    (ya, yb) = heights[values.index(a)], heights[values.index(b)]
    for value, y in zip(values, heights, strict=True):
        assert y == pytest.approx(ya + (value - a) / (b - a) * (yb - ya), abs=0.11)
    assert not marks(root, "filled")
    assert not list(root.iter(f"{NS}polygon")), "no band of all of them"
    upright = [p for p in root.iter(f"{NS}path") if p.get("stroke-dasharray") == "3 3"]
    assert len(upright) == len(set(left.values()))
    assert "Each line: a run of ours" in "".join(root.itertext())
