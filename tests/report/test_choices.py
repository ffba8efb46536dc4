"""What is said of settings that tuning chose: once for a row, or with the first of its cells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retable.report import footnotes
from retable.tables.aggregate import Table, build
from support.mini import extra_root, planned


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("chosen"))))
        return build(*planned())


def said(mini: Table, choices: list[str]) -> list[str]:
    """Footnotes on the choices of a row that has as many columns."""
    column, row = mini.spec.columns["accuracy"], "same"
    names = [f"c{i}" for i in range(len(choices))]
    columns = {n: column.model_copy(update={"title": f"column {n}"}) for n in names}
    cell = mini.cells[row, "accuracy"]
    cells = {
        (row, name): replace(cell, column=name, selected=choice)
        for name, choice in zip(names, choices, strict=True)
    }
    spec = mini.spec.model_copy(update={"columns": columns})
    found = footnotes.footnotes(replace(mini, spec=spec, cells=cells))
    return [note for note in found if "lr=" in note]


def test_a_row_of_one_choice_is_named_alone(mini):
    title = mini.spec.rows["same"].title or "same"
    assert said(mini, ["lr=1"] * 7) == [f"{title}: lr=1"]


def test_of_many_cells_of_one_choice_the_first_is_named(mini):
    many, few = said(mini, ["lr=1"] * 7 + ["lr=2"] * 2)
    assert many.endswith("column c0 and 6 more cells of its row: lr=1")
    assert "column c7" in few
    assert "column c8" in few
    assert "more cells" not in few
