"""What a run began with that went on elsewhere is told wherever its machine is."""

from __future__ import annotations

import pytest
from msgspec import structs

from retable.report import explain, formatting
from retable.report.site.run_data import _facts
from retable.runs.record_parts import Stretch
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.verdicts.judge import judge
from support.index import record_for
from support.records import PROVENANCE, leave

BEFORE = structs.replace(PROVENANCE, cpu="Old 1", torch="1.9")
BEGAN = Stretch(provenance=BEFORE, threads=2, workers=1)
SAID = "torch 1.9, cpu Old 1, 2 threads"


@pytest.fixture
def made(runs):
    """A table of runs, the first of which went on elsewhere."""
    grid = plan("digits/accuracy")
    for number, run in enumerate(grid.runs()):
        leave(runs, record_for(run, earlier=[] if number else [BEGAN]))
    found = collect.from_runs(grid, pytest.fail)
    return judge(build(grid, found)), grid, found


def test_below_a_table(made, runs):
    table, grid, found = made
    assert f"; torch 2; some begun with {SAID}; commit c; 2026" in formatting.provenance(table)
    others = {key: structs.replace(record, earlier=[]) for key, record in found.items()}
    assert "; torch 2; commit c; 2026" in formatting.provenance(judge(build(grid, others)))


def test_of_every_run_of_an_explained_cell(made):
    found = explain.explain(*made, "slow,accuracy")
    assert found.as_text().count(", begun with ") == 1
    assert f"2026-01-01, begun with {SAID}, recorded" in found.as_text()
    assert [run["begun"] for run in found.as_json()["runs"][:2]] == [[SAID], []]


def test_on_the_page_of_a_run(made):
    first, second = list(made[2])[:2]
    assert ("Begun with", SAID) in list(_facts(first, made[2][first]))
    assert "Begun with" not in dict(_facts(second, made[2][second]))
