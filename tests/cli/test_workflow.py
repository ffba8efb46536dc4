"""What the public functions give is what the commands print."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import retable
from retable.cli import workflow
from retable.cli.main import app
from retable.report import claims_text, json_csv
from retable.util import paths


@pytest.fixture
def published(monkeypatch):
    """The project's own results, beside which the tests' papers are none."""
    monkeypatch.setattr(paths, "results_dir", lambda: Path(__file__).parents[2] / "results")


def said(*args):
    done = CliRunner().invoke(app, [*args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_published_table_is_a_frame_of_its_cells(published):
    table = retable.load_table("risk_parity/example_iterations")
    frame = retable.cells(table)
    assert frame.columns == list(json_csv.CSV_TYPES)
    printed = said("table", table.name, "--from", "results", "--format", "csv")
    for ours, theirs in zip(frame.to_dicts(), csv.DictReader(io.StringIO(printed)), strict=True):
        assert {k: "" if v is None else str(v) for k, v in ours.items()} == theirs


@pytest.mark.slow
def test_the_claims_of_a_paper_are_adjusted_and_those_of_one_table_are_not(published):
    paper = retable.claims(*retable.load_tables("risk_parity"))
    printed = json.loads(said("claims", "risk_parity", "--from", "results", "--json"))
    assert paper["id"].to_list() == [claim["id"] for claim in printed]
    assert paper["verdict"].to_list() == [claim["verdict"] for claim in printed]
    assert paper["p_holm"].to_list() == [claim["p_holm"] for claim in printed]
    thetas = [claim["effect"] and claim["effect"]["theta"] for claim in printed]
    assert paper["theta"].to_list() == thetas
    assert paper["p_holm"].count()
    alone = retable.claims(retable.load_table("risk_parity/iterations"))
    assert alone["p_holm"].count() == 0
    assert alone["p"].to_list() == paper.filter(table="risk_parity/iterations")["p"].to_list()


def test_a_table_without_claims_has_an_empty_frame_of_them(published):
    frame = retable.claims(retable.load_table("risk_parity/example_bai2016"))
    assert frame.columns == list(claims_text.CLAIM_TYPES)
    assert frame.is_empty()


def test_run_table_does_what_is_missing_and_returns_it_judged(capfd):
    part = retable.run_table(
        "digits/accuracy", "smoke", rows=["fast"], overrides=["progress=false"]
    )
    before = retable.cells(*part)
    assert dict(before.group_by("row").agg(before["n"].sum()).iter_rows()).keys() >= {"fast"}
    done = before.filter(before["n"] > 0)
    assert done["row"].unique().to_list() == ["fast"]
    whole = retable.run_table("digits/accuracy", "smoke")
    assert "already done" in capfd.readouterr().err
    cells = retable.cells(*whole)
    assert cells.filter(row="fast")["mean"].to_list() == before.filter(row="fast")["mean"].to_list()
    assert whole[0].tally is not None
    again = retable.load_table("digits/accuracy", "smoke", source="runs")
    assert retable.cells(again).equals(cells)


@pytest.mark.slow
def test_few_seeds_are_judged_as_so_many():
    (table,) = retable.run_table("digits/accuracy", seeds=2)
    own = {place: cell for place, cell in table.cells.items() if cell.n_planned}
    assert {(cell.n_done, cell.n_planned) for cell in own.values()} == {(2, 2)}
    assert table.tally.judged == 3
    whole = retable.load_table("digits/accuracy", source="runs")  # which has three
    assert whole.tally.judged == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: retable.load_table("risk_parity"),
            r"has 5 tables; name one \(risk_parity/cpu_time",
        ),
        (lambda: retable.load_table("risk_parity/iteration"), "mean 'risk_parity/iterations'"),
        (lambda: retable.load_table("digits/accuracy"), "accuracy: nothing is pub"),
        (lambda: workflow.plan("risk_parity/iterations", source="reslts"), "mean 'results'"),
        (lambda: workflow.plan("risk_parity/iterations", "papre"), "no protocol 'papre'"),
        (
            lambda: workflow.plan("signed_supermask/digits"),
            "no protocol 'paper'; what there is is --protocol reduced",
        ),
        (lambda: retable.run_table("digits/accuracy", rows=["fats"]), "did you mean 'fast'"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is_near(published, call, message):
    with pytest.raises(retable.UserError, match=message):
        call()


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, retable; retable.load_table;"
        "print(sorted({'torch', 'hydra', 'polars', 'numpy', 'yaml', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(retable.__all__) <= set(dir(retable))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = retable.nothing


@pytest.mark.slow
def test_the_guide_runs_as_it_stands(published, monkeypatch, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert set(re.findall(r"retable\.(\w+)\(", code)) == set(retable.__all__) - {"UserError"}
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "python.md", "exec"), {})
