"""Heat maps as LaTeX: every cell where it belongs, in the picture's colours, and typeset."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from retable.report import latex, latex_heat
from retable.report.svg import colours
from retable.tables.aggregate import Table, build
from support.heat import with_arrays
from support.latex import compiled
from support.mini import extra_root, planned

SMALL = torch.tensor([[0.0, 0.25, 1.0], [-1.0, 0.5, float("nan")]])


@pytest.fixture
def mini(tmp_path, monkeypatch) -> Table:
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    return build(*planned())


def with_heat(table: Table, folder, left, **figure) -> Table:
    keys = table.cells["same", "accuracy"].run_keys[:1]
    panels = [{"row": "same", "column": "accuracy", "array": name, "title": name} for name in left]
    return with_arrays(table, folder, dict.fromkeys(keys, left), panels=panels, **figure)


def test_every_cell_has_the_colour_and_the_number_of_its_mean(mini, tmp_path):
    text = latex.render(with_heat(mini, tmp_path, {"a": SMALL}, limits=[-1, 1]))
    (picture,) = re.findall(r"\\begin\{picture\}\(3,2\)(.*?)\\end\{picture\}", text, re.S)
    cells: dict[tuple[int, int], str] = {}
    rule = r"\\put\((\d+),(\d+)\)\{\\textcolor\[HTML\]\{(\w+)\}\{\\rule\{(\d+)\\unit"
    for column, up, colour, count in re.findall(rule, picture):
        for at in range(int(column), int(column) + int(count)):
            assert (1 - int(up), at) not in cells, "painted twice"
            cells[1 - int(up), at] = f"#{colour.lower()}"
    assert cells == {
        (row, column): colours.colour(round((SMALL[row, column].item() + 1) / 2 * 255))
        for row in range(2)
        for column in range(3)
        if (row, column) != (1, 2)
    }
    numbers = re.findall(r"\\put\((\d)\.5,(\d)\.5\).*?\{(?:white|black)\}\{(.*?)\}", picture)
    assert [(x, y, n.replace("$-$", "-")) for x, y, n in numbers] == [
        ("0", "1", "0.00"), ("1", "1", "0.25"), ("2", "1", "1.00"),
        ("0", "0", "-1.00"), ("1", "0", "0.50"),
    ]  # fmt: skip


def test_large_arrays_and_what_nobody_has_left_are_said_and_all_of_it_typesets(mini, tmp_path):
    most = latex_heat.MOST
    left = {"a_b": SMALL, "most": torch.rand(most, most), "more": torch.rand(2, most + 1)}
    table = with_heat(mini, tmp_path, left, x="class_1", y="50 %")
    figure = table.spec.figure
    gone = figure.panels[0].model_copy(update={"array": "nowhere"})
    figure = figure.model_copy(update={"panels": [*figure.panels, gone]})
    text = latex.render(replace(table, spec=table.spec.model_copy(update={"figure": figure})))
    assert f"2 by {most + 1} numbers: too many to be drawn here" in text
    assert "Nothing to show: " in text
    log = compiled(tmp_path, text)
    for fault in ("Overfull \\hbox", "too large for page", "Missing character", "undefined"):
        assert fault not in log
