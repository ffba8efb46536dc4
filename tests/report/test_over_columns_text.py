"""Columns over others in every output, from the command line, on records that nobody has run."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from typer.testing import CliRunner

from retable.cli.main import app
from retable.report import explain, over_columns_text
from retable.tables import spec
from retable.tables.grid import plan
from support.over_columns import DELTA_M, MR, NAME, UNEVEN, VALUES, records_of, written
from support.records import leave


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The command line, where all runs of the table but some are done."""
    runs = tmp_path / "runs"
    monkeypatch.setenv("RETABLE_RUNS", str(runs))
    with written():

        def invoke(*args: str, values=None) -> str:
            if not runs.exists():
                for record in records_of(plan(NAME), values).values():
                    leave(runs, record)
            result = CliRunner().invoke(app, [args[0], NAME, *args[1:]])
            assert result.exit_code == 0, result.output
            return result.output

        yield invoke


def means(by_row):
    return {row: pytest.approx(sum(v) / 3, abs=1e-9) for row, v in by_row.items()}


def test_every_output_has_the_same_numbers_and_says_how_they_are_made(call):
    values = json.loads(call("table", "--format", "json"))
    lines = list(csv.DictReader(io.StringIO(call("table", "--format", "csv"))))
    page = call("table", "--format", "md")
    latex = call("table", "--format", "latex")
    for column, by_row in {"delta_m": DELTA_M, "uneven": UNEVEN, "mr": MR}.items():
        cells = {c["row"]: c for c in values["cells"] if c["column"] == column and c["n_planned"]}
        expected = means(by_row)
        assert {r: cells[r]["mean"] for r in by_row} == expected
        found = {one["row"]: one for one in lines if one["column"] == column}
        assert {r: float(found[r]["mean"]) for r in by_row} == expected
        for row, numbers in by_row.items():
            assert cells[row]["values"] == {
                str(s): pytest.approx(v, abs=1e-9) for s, v in enumerate(numbers)
            }
            assert f"{sum(numbers) / 3:.2f} ± " in page
    assert (found["ls"]["metric"], found["ls"]["unit"]) == ("mean_rank", "")
    (over,) = [c["over_columns"] for c in values["columns"] if c["name"] == "mr"]
    assert (over["kind"], over["columns"], over["exclude"]) == (
        "mean_rank",
        ["acc", "loss"],
        ["stl"],
    )
    assert "over_columns" not in values["columns"][0]
    said = (
        "Δm (%): mean over Acc, Loss of the relative change (M - B)/B in %, its sign turned where"
        " larger is better, so that less is better; B: the mean over the seeds of STL, taken as a"
        " constant."
    )
    plain = re.sub(r"\s+", " ", page.replace("\\", ""))
    assert said in plain
    assert "fixed values (Table 9, recalled and not verified)" in plain
    assert "rank among all rows run in them but STL, seed by seed" in plain
    assert "taken as a constant" in latex
    assert "C1" in page
    assert "upheld" in page


@pytest.mark.slow
def test_plan_and_status_count_no_runs_of_it(call):
    assert "12 runs" in call("plan", values=VALUES | {"gap": VALUES["gap"][:2]})
    status = call("status")
    assert not any(name in status for name in ("delta_m", "Δm", "MR"))
    shown = call("table", "--format", "md")
    assert "incomplete 2/3" in shown
    listed = call("show")
    assert "mr (MR): mean over Acc, Loss of the row's rank among all rows" in listed
    assert "mean_rank: mean_rank" in listed


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ls,delta_m", "ls,mr", "gap,uneven", "stl,mr"])
def test_explained_with_the_numbers_put_in(call, place):
    text = call("table", "--explain", place)
    values = json.loads(call("table", "--explain", place, "--format", "json"))
    assert values["runs"] == []
    assert values["address"] is None
    if place == "stl,mr":
        assert values["made_of"] == []
        assert "runs: none\n" in text + "\n"
        return
    assert "runs: none of its own" in text
    for line in values["made_of"]:
        assert line in text
    said = {
        "ls,delta_m": ["B: acc 50, loss 2", "seed 1: acc +10.0000, loss +25.0000; together 17.5"],
        "ls,mr": ["ranked: 3 rows (ls, gap, pair)", "seed 0: acc 2, loss 3; together 2.5"],
        "gap,uneven": ["seed 1: acc -20.0000, loss -10.0000; together 5"],
    }
    for line in said[place]:
        assert line in values["made_of"]
    assert "3 of 3 seeds have all that it is made of" in text


@pytest.mark.slow
def test_watch_and_the_site_show_it(call, tmp_path):
    watched = call("watch", "--once")
    assert "17.50 ± 5.00" in watched
    assert "12 done" in watched
    result = CliRunner().invoke(app, ["site", "--from", "runs", "--output", str(tmp_path / "site")])
    assert result.exit_code == 0, result.output
    (page,) = (tmp_path / "site").rglob("*tasks*.html")
    assert "taken as a constant" in page.read_text(encoding="utf-8")
    (cell,) = (one for one in (tmp_path / "site").rglob("r1c2.js") if "tasks" in str(one.parent))
    said = cell.read_text(encoding="utf-8")
    assert "seed 1: acc +10.0000, loss +25.0000; together 17.5" in said
    assert "3 of 3 seeds" in said


def test_many_columns_are_counted_in_its_note():
    many = ", ".join(f'"c{n}"' for n in range(9))
    pattern = '  "c{n}": {over: {n: [0, 1, 2, 3, 4, 5, 6, 7, 8]}, metric: loss, overrides:'
    pattern += ' ["model.hidden={n}"], experiment: {paper: digits/base}}\n  mr:\n'
    with written(
        ("  mr:\n", pattern),
        ("mean_rank, columns: [acc, loss]", f"mean_rank, columns: [{many}]"),
    ):
        assert "mean over 9 columns of" in over_columns_text.said(spec.load(NAME), "mr")


def test_every_mark_of_such_a_cell_is_explained():
    assert explain._why("base not positive")
