"""Lines that a protocol does not run and nobody reports are left out of every output, and named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retable.report import footnotes, latex, layout
from retable.tables.aggregate import Table, build
from support.mini import extra_root, planned


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("laid"))))
        return build(*planned())


def without(table: Table, *gone: str, transposed: bool = False) -> Table:
    """The table without the cells of some rows or columns."""
    cells = {at: c for at, c in table.cells.items() if not {*at} & {*gone}}
    spec = table.spec.model_copy(update={"transposed": transposed})
    return replace(table, spec=spec, cells=cells)


def test_a_table_with_all_its_cells_is_whole(mini):
    down, across = layout.sides(mini)
    assert (list(down), list(across)) == (list(mini.spec.rows), list(mini.spec.columns))
    assert layout.left_out(mini) == []


@pytest.mark.parametrize("transposed", [False, True])
def test_lines_without_a_cell_are_in_no_output_but_named_once(mini, transposed):
    row, column = "worse", "cost"
    table = without(mini, column, row, transposed=transposed)
    titles = [mini.spec.columns[column].title or column, mini.spec.rows[row].title or row]
    down, across = layout.sides(table)
    rows, columns = (across, down) if transposed else (down, across)
    assert list(rows) == [name for name in mini.spec.rows if name != row]
    assert list(columns) == [name for name in mini.spec.columns if name != column]
    of_row, of_column = ("column", "row") if transposed else ("row", "column")
    notes = footnotes.footnotes(table)
    assert f"Protocol paper does not run 1 {of_row} of the table: {titles[1]}" in notes
    assert f"Protocol paper does not run 1 {of_column} of the table: {titles[0]}" in notes
    shown = {
        place for block in layout.blocks(table, layout.MOST_COLUMNS) for place in block.cells()
    }
    assert shown >= set(table.cells)
    assert not {name for place in shown for name in place} & {row, column}
    widths = [len(block.across) for block in layout.blocks(table, layout.MOST_COLUMNS)]
    assert max(widths) <= layout.MOST_COLUMNS
    assert all(f"l{'r' * width}@" in latex.render(table) for width in widths)


def test_of_many_lines_some_are_named(mini):
    rows = list(mini.spec.rows)[-6:]
    (said,) = layout.left_out(without(mini, *rows))
    titles = [mini.spec.rows[row].title or row for row in rows]
    assert said.endswith(f"6 rows of the table: {'; '.join(titles[:3])}; and 3 more")


def test_a_cell_is_where_its_titles_are(mini):
    turned = without(mini, transposed=True)
    for at in mini.cells:
        assert layout.place(mini, *at) == at
        assert layout.place(turned, *at) == at[::-1]
        assert layout.place(turned, *layout.place(turned, *at)) == at
