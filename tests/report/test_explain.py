"""Everything behind a cell: what is printed is what was measured, and a slip is put right."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from retable.cli.main import app
from retable.report import explain
from retable.tables.aggregate import build
from retable.tables.verdicts.judge import judge
from retable.util.errors import UserError
from support.mini import extra_root, planned


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    grid, records = planned()
    return judge(build(grid, records)), grid, records


def test_all_runs_with_their_values_and_the_formulas(made):
    table, grid, records = made
    found = explain.explain(table, grid, records, "same,drift")
    text = found.as_text()
    cell = table.cells["same", "drift"]
    for seed, key in found.keys.items():
        line = next(ln for ln in text.splitlines() if key[:12] in ln and "seed" in ln)
        assert f"seed {seed}" in line
        assert f"{cell.values[seed]:.10g}" in line
        assert "done, cpu, commit 0123456789ab, 2026-02-03" in line
    assert "test/loss; 3 of 3 planned seeds (0 to 2)" in text
    assert "grade primary, verified" in text
    assert "verdict: higher" in text
    for step in cell.judged.steps[1:]:
        assert step in text
    assert cell.judged.reading.text in text
    assert cell.judged.margin.origin in text
    assert "Cause: not known" in text
    assert f"retable verify {found.keys[0][:12]}" in text


def test_what_is_missing_stale_or_lost_is_said_with_its_reason(made):
    table, grid, records = made
    broken = explain.explain(table, grid, records, "broken,accuracy").as_text()
    assert "diverged" in broken
    assert "failed" in broken
    assert "ValueError: <b>&_%" in broken
    assert "the mean is one of survivors" in broken
    assert "verdict: diverged 1/3" in broken
    short = explain.explain(table, grid, records, "short,accuracy")
    assert [run["status"] for run in short.runs()] == ["done", "done", "not run"]
    old = explain.explain(table, grid, records, "old,accuracy")
    assert [run["stale"] for run in old.runs()] == [False, True, True]
    assert "partly stale: records below are of two states of the code" in old.as_text()
    for place in table.cells:
        found = explain.explain(table, grid, records, ",".join(place))
        for entry in found.as_json()["marks"]:
            assert entry["why"], entry["mark"]


def test_recorded_numbers_stand_beside_values_in_per_cent(made):
    table, grid, records = made
    first = explain.explain(table, grid, records, "better,accuracy").runs()[0]
    assert (first["value"], first["recorded"]) == (pytest.approx(97.0), 0.97)


def test_reported_only_and_json(made):
    table, grid, records = made
    quoted = explain.explain(table, grid, records, "quoted, accuracy")
    assert quoted.verify() is None
    assert "runs: none" in quoted.as_text()
    for place in ("quoted,accuracy", "same,cost", "waiting,accuracy"):
        found = explain.explain(table, grid, records, place)
        values = json.loads(json.dumps(found.as_json(), allow_nan=False))
        assert (values["row"], values["column"]) == tuple(place.split(","))
        assert len(values["runs"]) == len(found.keys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("sam,drift", "has no row 'sam'; did you mean 'same'?"),
        ("same,drft", "has no column 'drft'; did you mean 'drift'?"),
        ("same", "expected ROW,COLUMN, such as same,accuracy"),
        ("", "expected ROW,COLUMN"),
        ("short,depth", "has nothing at short,depth: neither run nor reported"),
    ],
)
def test_a_cell_that_is_not_there(made, place, message):
    with pytest.raises(UserError, match=re.escape(message)):
        explain.explain(*made, place)


def called(*args: str):
    """A command in this process; what a user would be told is raised."""
    result = CliRunner().invoke(app, ["table", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.mark.slow
def test_on_the_command_line():
    place = ("digits/accuracy", "--explain", "slow,accuracy")
    text = called(*place)
    assert "reported: 91.30 ± 0.50 (5) %" in text
    assert "verdict: incomplete 0/3" in text
    assert text.count(", not run") + text.count("not run\n") == 3
    values = json.loads(called(*place, "--json"))
    assert values["judged"]["kind"] == "partial"
    assert values["address"]["metric"] == "test/accuracy"
    assert json.loads(called(*place, "--format", "json")) == values
    with pytest.raises(UserError, match="did you mean 'slow'"):
        called("digits/accuracy", "--explain", "slw,accuracy")
    with pytest.raises(UserError, match="explained as text or json"):
        called(*place, "--format", "csv")
    with pytest.raises(UserError, match="name one: risk_parity/cpu_time"):
        called("risk_parity", "--from", "results", "--explain", "a,b")
