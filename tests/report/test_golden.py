"""Every output of the mini-sweep, which has every verdict and every mark, as it is kept."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from retable.report import footnotes, formatting, json_csv, markdown
from retable.tables.results import ClaimVerdict, VerdictKind
from support.mini import GOLDEN, extra_root, outputs, tables


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The outputs, made once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("mini"))))
    yield outputs(), tables()[0]
    patch.undo()


def compared(text: str) -> str:
    """As it is; of the oldest packages, which differ in the last digits, fractions as nine."""
    if not os.environ.get("RETABLE_TESTS_OLDEST"):
        return text
    return re.sub(r"\d+\.\d{8,}", lambda number: f"{float(number[0]):.9g}", text)


def test_outputs_are_the_golden_ones(made):
    found = made[0]
    assert {p.name for p in GOLDEN.iterdir()} == set(found)
    for name, content in found.items():
        golden = (GOLDEN / name).read_text(encoding="utf-8")
        assert compared(content) == compared(golden), (
            f"{name}; if that is meant: see support/mini.py"
        )


def test_every_verdict_and_every_mark_occurs(made):
    out, table = made
    values = json.loads(out["verdicts.json"])
    smoke = out["verdicts_smoke.md"]
    kinds = {cell["verdict"] for cell in values["cells"]}
    assert kinds | {"protocol"} == set(get_args(VerdictKind))
    assert "91.05 ± 0.10 (50) smoke" in smoke
    assert "the protocol is smoke, not paper" in smoke
    below = [line.split(" <sup>")[0] for line in re.findall(r"<br>([^|]*?) \|", smoke)]
    assert len([line for line in below if line.endswith(" smoke")]) == 12
    assert {line for line in below if not line.endswith(" smoke")} == {"97.2", "Rates"} & set(below)
    claimed = {claim["verdict"] for claim in values["claims"]}
    assert claimed == set(get_args(ClaimVerdict))
    marks = {mark.split(" ")[0] for cell in values["cells"] for mark in cell["marks"]}
    assert marks == {
        "diverged", "equal", "failed", "heavy", "mixed", "n", "not", "partial", "partly",
        "selection", "stale", "unverified",
    }  # fmt: skip
    grades = {c["reported"]["grade"] for c in values["cells"] if c["reported"]}
    assert grades == set(formatting.GRADE_MARK)
    assert {m.letter for m in footnotes.mark_notes(table)} > {"", "a", "b"}


def test_every_sign_and_letter_that_a_cell_shows_is_explained(made):
    markdown_text, table = made[0]["verdicts.md"], made[1]
    legend = footnotes.legend(table)
    shown = {formatting.sign(cell) for cell in table.cells.values()} - {""}
    assert shown == set(formatting.SIGN.values())
    for sign in shown:
        assert f" {sign} " in legend
    for letter in "".join(footnotes.letters_of(footnotes.mark_notes(table)).values()).replace(
        ",", ""
    ):
        assert f"- <sup>{letter}</sup> " in markdown_text
    for mark in ("†", "‡", "§"):
        assert f"- {mark} " in markdown_text


def test_what_is_not_verified_carries_its_mark_through_every_output(made):
    out, table = made
    seen = 0
    for cell in table.cells.values():
        if cell.reported is None or cell.reported.grade == "primary":
            continue
        seen += 1
        mark = formatting.GRADE_MARK[cell.reported.grade]
        assert mark
        shown = formatting.theirs(cell.reported)
        assert shown.endswith(mark)
        assert f"<br>{shown}" in out["verdicts.md"]
        assert any(m.startswith("unverified") for m in footnotes.marks(cell))
    assert seen >= 4
    for line in csv.DictReader(io.StringIO(out["verdicts.csv"])):
        assert ("unverified" in line["marks"]) == (line["grade"] not in {"primary", ""})
    assert out["verdicts.tex"].count("$\\ddagger$") >= 3
    assert "4 of the reported values are not verified" in out["verdicts.tex"]


def test_rows_of_the_grid_have_as_many_cells_and_text_stays_text(made):
    spec = made[1].spec
    barred = {n: row.model_copy(update={"title": f"a|{n}"}) for n, row in spec.rows.items()}
    renamed = replace(made[1], spec=spec.model_copy(update={"rows": barred}))
    for text in (made[0]["verdicts.md"], markdown.render(renamed)):
        tables = re.findall(r"^(?:\|.*\n)+", text, re.MULTILINE)
        assert len(tables) > 2
        for lines in tables:
            assert len({ln.replace("\\|", "").count("|") for ln in lines.splitlines()}) == 1
    assert "\\*Better\\* [1]\\(x)" in made[0]["verdicts.md"]
    assert "<b>" not in made[0]["verdicts.md"] + made[0]["verdicts.svg"]


def test_csv_says_the_same_as_json(made):
    lines = list(csv.DictReader(io.StringIO(made[0]["verdicts.csv"])))
    cells = json.loads(made[0]["verdicts.json"])["cells"]
    assert len(lines) == len(cells)
    for line, cell in zip(lines, cells, strict=True):
        assert (line["row"], line["column"]) == (cell["row"], cell["column"])
        assert line["verdict"] == cell["verdict"]
        assert line["mean"] == ("" if cell["mean"] is None else repr(cell["mean"]))
        assert line["marks"] == "; ".join(cell["marks"])
        difference = cell["judged"]["difference"] or {}
        for name in ("d", "se", "df", "p", "h"):
            value = difference.get(name)
            assert line[name] == ("" if value is None else repr(value))
        for name in ("low", "high"):
            value = cell["judged"][name]
            assert line[name] == ("" if value is None else repr(value))
        needed = cell["judged"]["needed"]
        assert line["seeds_needed_text"] == (needed["text"] if needed else "")
        if cell["n"]:
            assert len(cell["values"]) == cell["n"]


def test_json_is_json_and_every_key_is_documented(made):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    documented = (Path(__file__).parents[2] / "docs" / "outputs.md").read_text(encoding="utf-8")
    values = json.loads(made[0]["verdicts.json"], parse_constant=refuse)
    claimed = json.loads(made[0]["verdicts_claims.json"], parse_constant=refuse)
    keys = {*values, *values["cells"][0], *values["cells"][0]["judged"], *values["lost"][0]}
    keys |= {*claimed[0], *claimed[0]["effect"], *json_csv.CSV_TYPES}
    for key in keys:
        assert f"`{key}`" in documented, key


def test_infinite_and_missing_numbers_become_none():
    values = {"a": [float("nan"), 1.0, (float("inf"), 2)], "b": {"c": -float("inf"), "d": True}}
    assert json_csv.finite(values) == {"a": [None, 1.0, [None, 2]], "b": {"c": None, "d": True}}
