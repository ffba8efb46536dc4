"""Code beside the project's is named wherever the commit is."""

from __future__ import annotations

import pytest
from msgspec import structs
from typer.testing import CliRunner

from retable.cli.main import app
from retable.report import explain, formatting
from retable.report.run_diff import difference
from retable.report.site.run_data import _facts
from retable.runs.lookup import find
from retable.runs.record_parts import CodeRoot
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.verdicts.judge import judge
from support.index import record_for
from support.records import PROVENANCE, leave

NAME = "digits/accuracy"
PAPERS = CodeRoot(name="mypapers", commit="1" * 40, dirty="2" * 64)
TOOLS = CodeRoot(name="mytools", version="1.2")
SAID = f"mypapers {'1' * 12} with local changes, mytools 1.2"


@pytest.fixture
def made(runs):
    """A table with records, the first of which has used other code of the papers."""
    grid = plan(NAME)
    for number, run in enumerate(grid.runs()):
        papers = structs.replace(PAPERS, dirty=None) if number == 0 else PAPERS
        source = structs.replace(PROVENANCE, roots=[papers, TOOLS])
        leave(runs, record_for(run, provenance=source, fingerprint=str(number % 2) * 64))
    found = collect.from_runs(grid, pytest.fail)
    return judge(build(grid, found)), grid, found


def test_below_a_table_each_state_once(made):
    assert f"; commit c; code of {SAID}; mypapers {'1' * 12}, mytools 1.2; 2026" in (
        formatting.provenance(made[0])
    )


def test_of_every_run_of_an_explained_cell(made):
    found = explain.explain(*made, "slow,accuracy")
    assert found.as_text().count(f", commit c, {SAID}, 2026-01-01") == 2
    (papers, tools) = found.as_json()["runs"][1]["roots"]
    assert papers == {"name": "mypapers", "commit": "1" * 40, "dirty": "2" * 64}
    assert tools == {"name": "mytools", "version": "1.2"}


def test_of_two_runs_side_by_side(made):
    keys = list(made[2])
    found = difference(find(keys[0]), find(keys[1]))
    assert f"(commit c, mypapers {'1' * 12}, mytools 1.2) / 1111" in found.as_text()
    assert f"(commit c, {SAID})" in found.as_text()
    assert [root["name"] for root in found.as_json()["a"]["roots"]] == ["mypapers", "mytools"]


def test_on_the_page_of_a_run(made):
    key = list(made[2])[1]
    facts = dict(_facts(key, made[2][key]))
    assert facts["Code of mypapers"] == f"{'1' * 40} with local changes {'2' * 12}"
    assert facts["Code of mytools"] == "1.2"


def test_publishing_says_what_is_in_no_commit_and_does_it_all_the_same(made, tmp_path, monkeypatch):
    monkeypatch.setattr("retable.util.paths.results_dir", lambda: tmp_path / "results")
    done = CliRunner().invoke(app, ["publish", NAME])
    assert done.exit_code == 0
    assert (
        f"warning: {NAME}: 5 records of code that is in no commit: mypapers had local changes,"
        " which are not kept here; commit it, then do each with `retable verify " in done.stderr
    )
    assert f"warning: {NAME}: 6 of 6 records are stale: computed by other code" in done.stderr
    assert "mytools" not in done.stderr
    assert (tmp_path / "results" / f"{NAME}.md").exists()
