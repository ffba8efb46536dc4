"""Heat maps as SVG: colours and numbers where they belong, one scale, what is missing in words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
import torch

from retable.report import markdown
from retable.report.svg import colours, curves, heat
from retable.report.svg.axes import between
from retable.tables.aggregate import Table, build
from support.heat import with_arrays
from support.mini import extra_root, planned

NS = "{http://www.w3.org/2000/svg}"
SMALL = torch.tensor([[0.0, 0.25, 1.0], [-1.0, 0.5, 0.5]])


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Table:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("heat"))))
        return build(*planned())


def panel(array: str, **more: str) -> dict[str, str]:
    return {"row": "same", "column": "accuracy", "array": array, **more}


def with_heat(table: Table, folder, left, *names, runs=1, **figure) -> Table:
    """The table drawn as heat maps of what its first runs have left."""
    keys = table.cells["same", "accuracy"].run_keys[:runs]
    panels = figure.pop("panels", [panel(name) for name in names])
    return with_arrays(table, folder, dict.fromkeys(keys, left), panels=panels, **figure)


def painted(root: ET.Element) -> list[dict[tuple[int, int], str]]:
    """Colour of each cell by row and column, panel by panel."""
    found: list[dict[tuple[int, int], str]] = []
    for group in root.iter(f"{NS}g"):
        if group.get("class") == "q":
            cells: dict[tuple[int, int], str] = {}
            for path in group.iter(f"{NS}path"):
                for column, row, count in re.findall(r"M(\d+) (\d+)\.5h(\d+)", path.get("d", "")):
                    for at in range(int(column), int(column) + int(count)):
                        assert (int(row), at) not in cells, "painted twice"
                        cells[int(row), at] = path.get("stroke", "")
            found.append(cells)
    return found


def texts(root: ET.Element, style: str = "kl") -> list[str]:
    return [t.text or "" for t in root.iter(f"{NS}text") if (t.get("class") or "-") in style]


def test_every_cell_has_the_colour_and_the_number_of_its_mean(mini, tmp_path):
    table = with_heat(mini, tmp_path, {"a": SMALL}, "a", limits=[-1, 1])
    root = ET.fromstring(curves.render(table))
    (cells,) = painted(root)
    assert cells == {
        (row, column): colours.colour(round((SMALL[row, column].item() + 1) / 2 * 255))
        for row in range(2)
        for column in range(3)
    }
    assert texts(root) == ["0.00", "0.25", "1.00", "−1.00", "0.50", "0.50"]


@pytest.mark.parametrize(
    ("given", "names"),
    [({}, ["0", "1", "2", "0", "1"]), ({"first": 1}, ["1", "2", "3", "1", "2"])],
)
def test_columns_and_rows_have_numbers_from_the_first_one_on(mini, tmp_path, given, names):
    table = with_heat(mini, tmp_path, {"a": SMALL}, "a", limits=[0.1, 0.9], **given)
    written = texts(ET.fromstring(curves.render(table)), "s")
    assert [text for text in written if text.isdigit()] == names


def test_all_panels_have_one_scale_from_the_least_to_the_greatest_number(mini, tmp_path):
    table = with_heat(mini, tmp_path, {"a": SMALL, "b": 3 * SMALL}, "a", "b")
    first, second = painted(ET.fromstring(curves.render(table)))
    assert second[1, 0] == colours.ANCHORS[0]  # -3
    assert second[0, 2] == colours.ANCHORS[-1]  # 3
    assert first[0, 2] == colours.colour(round((1 + 3) / 6 * 255))
    assert first[0, 0] == second[0, 0]  # both 0


def test_numbers_beyond_given_limits_have_the_colour_of_the_end(mini, tmp_path):
    said = "beyond the scale"
    table = with_heat(mini, tmp_path / "1", {"a": SMALL}, "a", limits=[0, 0.5])
    text = curves.render(table)
    (cells,) = painted(ET.fromstring(text))
    assert (cells[1, 0], cells[0, 2]) == (colours.ANCHORS[0], colours.ANCHORS[-1])
    assert said in text
    assert "−1.00" in texts(ET.fromstring(text))  # what is written is the mean all the same
    assert said not in curves.render(with_heat(mini, tmp_path / "2", {"a": SMALL}, "a"))


@pytest.mark.parametrize(("factor", "beyond"), [(1 + 1e-6, False), (1 + 1e-4, True)])
def test_a_cosine_that_is_rounded_is_not_beyond_the_scale(mini, tmp_path, factor, beyond):
    table = with_heat(mini, tmp_path, {"a": factor * SMALL}, "a", limits=[-1, 1])
    assert ("beyond the scale" in curves.render(table)) is beyond


def test_the_bar_has_the_colours_and_its_ticks_the_numbers(mini, tmp_path):
    root = ET.fromstring(curves.render(with_heat(mini, tmp_path, {"a": SMALL}, "a")))
    stops = [stop.get("stop-color") for stop in root.iter(f"{NS}stop")]
    assert tuple(stops) == colours.ANCHORS
    bar = next(r for r in root.iter(f"{NS}rect") if r.get("fill"))
    left, width = float(bar.get("x", "")), float(bar.get("width", ""))
    ticks = [t for t in root if t.tag == f"{NS}text" and t.get("text-anchor") == "middle"]
    for tick in ticks:
        value = float((tick.text or "").replace("−", "-"))
        assert float(tick.get("x", "")) == pytest.approx(left + (value + 1) / 2 * width, abs=0.06)
    assert len(ticks) >= 3


def test_numbers_stand_only_in_small_matrices(mini, tmp_path):
    left = {"fits": torch.rand(12, 12), "large": torch.rand(13, 2)}
    root = ET.fromstring(curves.render(with_heat(mini, tmp_path / "1", left, "fits")))
    assert len(texts(root)) == 144
    root = ET.fromstring(curves.render(with_heat(mini, tmp_path / "2", left, "large")))
    assert texts(root) == []
    assert len(painted(root)[0]) == 26


def test_a_vector_is_one_line_of_cells(mini, tmp_path):
    table = with_heat(mini, tmp_path, {"a": torch.arange(4.0)}, "a", y="class")
    root = ET.fromstring(curves.render(table))
    assert sorted(painted(root)[0]) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert "class" not in texts(root, "-")  # it has no rows to be named


def test_what_is_not_finite_is_left_open_and_counted(mini, tmp_path):
    array = torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]])
    table = with_heat(mini, tmp_path, {"a": array}, "a")
    text = curves.render(table)
    assert sorted(painted(ET.fromstring(text))[0]) == [(0, 0), (1, 1)]
    assert texts(ET.fromstring(text)) == ["1.00", "0.00"]
    assert "dashed: not finite" in text
    assert "from 0 to 1, 2 of them not finite" in heat.described(table, table.spec.figure)
    nothing = with_heat(mini, tmp_path / "2", {"a": array.new_full((2, 2), float("nan"))}, "a")
    assert painted(ET.fromstring(curves.render(nothing))) == [{}]


def test_panels_without_an_array_say_why(mini, tmp_path):
    panels = [panel("a", title="here"), panel("b", title="R&D"), {**panel("a"), "row": "close"}]
    table = with_heat(mini, tmp_path, {"a": SMALL}, panels=panels, runs=2)
    root = ET.fromstring(curves.render(table))
    assert len(painted(root)) == 1
    said = " ".join(texts(root, "s"))
    assert "2 of 3 runs" in said
    assert "Nothing to show: no array 'b' in artefact 'maps'; valid: a" in said
    assert "Nothing to show: its runs have left no artefact 'maps'" in said
    described = heat.described(table, table.spec.figure)
    assert described == (
        "Heat maps of level, means over runs; here: 2 × 3 numbers of 2 of 3 runs, from −1 to 1;"
        " R&D: nothing, no array 'b' in artefact 'maps'; valid: a;"
        " close, accuracy: nothing, its runs have left no artefact 'maps'; protocol paper"
    )
    assert (root.findtext(f"{NS}desc") or "") == described
    # Without any numbers there is no scale of them.
    table = with_heat(mini, tmp_path / "2", {"a": SMALL}, panels=panels[1:])
    assert next(ET.fromstring(curves.render(table)).iter(f"{NS}stop"), None) is None


def test_the_diagonal_of_a_square_is_told_apart(mini, tmp_path):
    table = with_heat(mini, tmp_path, {"a": torch.eye(3) + 1}, "a", runs=3)
    assert heat.described(table, table.spec.figure) == (
        "Heat maps of level, means over runs; same, accuracy: 3 × 3 numbers of 3 runs, from 1 to 2,"
        " mean 2 on the diagonal and 1 off it; protocol paper"
    )
    image = with_heat(mini, tmp_path / "2", {"a": torch.eye(3)}, "a", x="column", y="row")
    assert "diagonal" not in heat.described(image, image.spec.figure)


def test_markdown_says_it_in_the_pictures_text(mini, tmp_path):
    table = with_heat(mini, tmp_path, {"a": SMALL}, "a", title="a [level](x)")
    line = next(x for x in markdown.render(table, picture="p.svg").splitlines() if x[:2] == "![")
    assert re.fullmatch(r"!\[[^\[\]]*: Heat maps of a \(level\)[^\[\]]*\]\(p\.svg\)", line)


def test_the_same_table_gives_the_same_bytes(mini, tmp_path):
    table = with_heat(mini, tmp_path, {"a": SMALL, "b": torch.rand(40, 40)}, "a", "b", runs=3)
    first = curves.render(table)
    assert curves.render(table) == first


def test_a_large_matrix_is_a_small_file(mini, tmp_path):
    table = with_heat(mini, tmp_path, {"a": torch.rand(100, 100)}, "a")
    assert len(curves.render(table)) < 120_000


def test_colours_get_lighter_and_text_can_be_read_on_each():
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light = [luminance(colours.colour(level)) for level in range(colours.LEVELS)]
    # Steps of a 256th of a channel are rounded.
    assert all(after > before - 5e-4 for before, after in pairwise(light))
    assert light[::16] == sorted(light[::16])
    for level, value in enumerate(light):
        ink = 1.0 if colours.is_dark(level) else 0.0
        high, low = max(value, ink), min(value, ink)
        assert (high + 0.05) / (low + 0.05) >= 4.5
    ends = [colours.colour(colours.level(share)) for share in (-0.5, 0.0, 1.0, 1.5)]
    assert ends == [colours.ANCHORS[i] for i in (0, 0, -1, -1)]


def test_an_axis_between_given_ends_keeps_them():
    found = between(-0.21, 1.0)
    assert (found.low, found.high) == (-0.21, 1.0)
    assert found.ticks == [0.0, 0.5, 1.0]
