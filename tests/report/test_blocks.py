"""A table in parts: by the figure's panels, by what titles have in common, by number."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from retable.report import layout
from retable.tables.figure_spec import Figure, Panel


def table(rows, columns, *, figure=None, transposed=False, without=()):
    """What layout looks at of a table: titles, figure and which cells there are."""
    titled = [
        {name: SimpleNamespace(title=title) for name, title in titles.items()}
        for titles in (rows, columns)
    ]
    spec = SimpleNamespace(rows=titled[0], columns=titled[1], figure=figure, transposed=transposed)
    cells = {(r, c): None for r in rows for c in columns if (r, c) not in without}
    return SimpleNamespace(spec=spec, cells=cells)


ROWS = {"tb": "TB", "db": "DB"}
POINTS = {f"n{n}_{d}": f"D = {d}, N = {n}" for d in (2, 4) for n in (1, 2, 3)}
PANELS = [
    Panel(title=f"D = {d}", points={f"n{n}_{d}": float(n) for n in (1, 2, 3)}) for d in (2, 4)
]


def shown(some, most):
    return [
        (block.title, list(block.down.values()), list(block.across.values()), block.drawn)
        for block in layout.blocks(some, most)
    ]


def test_a_table_that_fits_is_one_part():
    some = table(ROWS, POINTS)
    assert shown(some, 9) == [("", ["TB", "DB"], list(POINTS.values()), False)]


def test_points_stand_panel_by_panel_behind_what_is_not_drawn():
    some = table(ROWS, {**POINTS, "all": "average"}, figure=Figure(x="N", panels=PANELS))
    n = ["N = 1", "N = 2", "N = 3"]
    assert shown(some, 9) == [
        ("", ["TB", "DB"], ["average"], False),
        ("D = 2", ["TB", "DB"], n, True),
        ("D = 4", ["TB", "DB"], n, True),
    ]
    # More points than there is room for go down.
    assert shown(some, 2)[1:] == [
        ("D = 2", n, ["TB", "DB"], True),
        ("D = 4", n, ["TB", "DB"], True),
    ]
    turned = layout.blocks(some, 2)[1]
    assert turned.place("n1_2", "tb") == ("tb", "n1_2")


def test_a_transposed_table_has_its_points_down_already():
    some = table(ROWS, POINTS, figure=Figure(x="N", panels=PANELS), transposed=True)
    assert shown(some, 9)[0] == ("D = 2", ["N = 1", "N = 2", "N = 3"], ["TB", "DB"], True)


def test_lines_that_a_panel_leaves_out_are_not_lost():
    only = [PANELS[0].model_copy(update={"only": ["tb"]}), PANELS[1]]
    some = table(ROWS, POINTS, figure=Figure(x="N", panels=only))
    first, two, _ = layout.blocks(some, 9)
    assert (first.drawn, set(first.down), set(first.across)) == (
        False,
        {"db"},
        {"n1_2", "n2_2", "n3_2"},
    )
    assert list(two.down) == ["tb"]


def test_lines_may_be_columns():
    figure = Figure(x="N", lines="columns", panels=[Panel(points={"tb": 1.0, "db": 2.0})])
    some = table(ROWS, {"loss": "loss", "error": "error"}, figure=figure)
    assert shown(some, 9) == [("", ["TB", "DB"], ["loss", "error"], True)]


def test_titles_that_begin_alike_are_a_part_where_there_is_no_room():
    assert shown(table(ROWS, POINTS), 4) == [
        ("D = 2", ["TB", "DB"], ["N = 1", "N = 2", "N = 3"], False),
        ("D = 4", ["TB", "DB"], ["N = 1", "N = 2", "N = 3"], False),
    ]
    plain = {f"c{n}": f"column {n}" for n in range(7)}
    assert [len(across) for _, _, across, _ in shown(table(ROWS, plain), 3)] == [3, 3, 1]


@given(st.data())
def test_every_cell_is_in_some_part_and_no_part_is_too_wide(data):
    rows = {f"r{n}": f"row {n}" for n in range(data.draw(st.integers(1, 6)))}
    columns = {f"c{n}": f"g{n % 3}, {n}" for n in range(data.draw(st.integers(1, 14)))}
    lines = data.draw(st.sampled_from(["rows", "columns"]))
    points, others = (columns, rows) if lines == "rows" else (rows, columns)
    panels = [
        Panel(
            title=data.draw(st.sampled_from(["", "g0", "g1"])),
            points=dict.fromkeys(
                data.draw(st.sets(st.sampled_from(sorted(points)), min_size=1)), 1.0
            ),
            only=data.draw(st.none() | st.lists(st.sampled_from(sorted(others)), min_size=1)),
        )
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    places = [(r, c) for r in rows for c in columns]
    gone = data.draw(st.sets(st.sampled_from(places), max_size=len(places) - 1))
    figure = Figure(x="x", lines=lines, panels=panels) if panels else None
    some = table(rows, columns, figure=figure, transposed=data.draw(st.booleans()), without=gone)
    most = data.draw(st.integers(1, 5))
    found = layout.blocks(some, most)
    assert all(len(block.across) <= most for block in found)
    assert {place for block in found for place in block.cells()} >= set(some.cells)
