"""Images as SVG, Markdown and LaTeX: every pixel where it belongs, in its colour, once."""

from __future__ import annotations

import re

import pytest
import torch

from retable.report import latex, markdown
from retable.report.svg import curves
from retable.tables.aggregate import Table, build
from support.heat import with_arrays
from support.latex import compiled
from support.mini import extra_root, planned

SMALL = torch.tensor(
    [
        [[1.0, 1.0, 0.0], [0.0, 0.5, 0.0]],
        [[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]],
        [[0.0, 0.0, 1.0], [0.0, 0.5, 0.0]],
    ]
)
"""Red, red, blue; green, grey, black."""

PIXELS = {
    (0, 0): "ff0000", (0, 1): "ff0000", (0, 2): "0000ff",
    (1, 0): "00ff00", (1, 1): "808080", (1, 2): "000000",
}  # fmt: skip


@pytest.fixture
def table(tmp_path, monkeypatch) -> Table:
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    mini = build(*planned())
    panel = {"row": "same", "column": "accuracy"}
    panels = [
        {**panel, "array": "a", "title": "Small & [red]"},
        {**panel, "array": "wide", "title": "too wide for LaTeX"},
        {**panel, "array": "a", "seed": 77, "title": "nobody's"},
    ]
    left = {"a": SMALL, "wide": torch.zeros(1, 90)}
    keys = mini.cells["same", "accuracy"].run_keys[:1]
    return with_arrays(
        mini, tmp_path / "left", dict.fromkeys(keys, left), kind="image", title="inputs <1>",
        panels=panels, across=3,
    )  # fmt: skip


def test_every_pixel_is_drawn_once_in_its_colour(table):
    picture = curves.render(table)
    panels = picture.split('<g class="q"')
    found: dict[tuple[int, int], str] = {}
    for colour, first, row, count in re.findall(
        r'<path stroke="#(\w{6})" d="M(\d+) (\d+)\.5h(\d+)"/>', panels[1]
    ):
        for column in range(int(first), int(first) + int(count)):
            assert (int(row), column) not in found, "painted twice"
            found[int(row), column] = colour
    assert found == PIXELS
    assert panels[2].count("<path") == 1  # ninety black pixels are one line
    seed = table.records[table.cells["same", "accuracy"].run_keys[0]].seed
    assert picture.count(f">seed {seed}</text>") == 2
    assert picture.count('<rect class="e"') == 2  # a white image ends somewhere, on a white page
    assert "Nothing to show: no" in picture
    assert "inputs &lt;1&gt;" in picture
    assert curves.render(table) == picture


def test_markdown_says_in_words_what_it_shows(table):
    text = markdown.render(table, picture="figure.svg")
    (alt,) = re.findall(r"^!\[(.*)\]\(", text, re.M)
    assert "Images of inputs &lt;1>, each of one run; Small &amp; (red): 2 × 3 pixels of" in alt
    assert "nobody's: nothing, no run of seed 77 is finished" in alt


def test_latex_has_the_same_pixels_and_typesets(table, tmp_path):
    text = latex.render(table)
    (picture,) = re.findall(r"\\begin\{picture\}\(3,2\)(.*?)\\end\{picture\}", text, re.S)
    found: dict[tuple[int, int], str] = {}
    rule = r"\\put\((\d+),(\d+)\)\{\\textcolor\[HTML\]\{(\w+)\}\{\\rule\{(\d+)\\unit"
    for first, up, colour, count in re.findall(rule, picture):
        for column in range(int(first), int(first) + int(count)):
            assert (1 - int(up), column) not in found, "painted twice"
            found[1 - int(up), column] = colour.lower()
    assert found == PIXELS
    assert "1 by 90 pixels: too many to be drawn here" in text
    assert "Nothing to show: no run of seed 77 is finished" in text
    compiled(tmp_path, text)
