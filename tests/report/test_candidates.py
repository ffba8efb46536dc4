"""A choice can be checked: every candidate is shown with its score and its runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec import structs

from retable.report import candidates, explain, formatting, json_csv
from retable.report.site import cell_view, table_pages
from retable.report.site.inputs import ShownTable
from retable.runs import records
from retable.runs.records import Status
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.verdicts.judge import judge
from support.index import record_for
from support.records import leave

NAME = "digits/candidates"
TABLE = """\
paper: digits
title: Numbers
source: {paper_ref: "Table 1"}
metrics: {accuracy: {key: test/accuracy, unit: "%", direction: max}}
seeds: 2
columns: {accuracy: {metric: accuracy, experiment: digits/base}}
rows: {chosen: [], fixed: [model.hidden=64]}
select:
  over: {model.optimizer.lr: [0.01, 0.1, 1.0]}
  by: val/accuracy
  seeds: [7, 8]
  rows: [chosen]
"""


@pytest.fixture
def made(runs):
    """The table with one tuning run that diverged, and another that took an hour."""
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "candidates.yaml"
    file.write_text(TABLE, encoding="utf-8")
    grid = plan(NAME)
    for run in grid.tuning_runs():
        rate = run.config.model["optimizer"]["lr"]
        record = record_for(run, validation={"val/accuracy": rate + run.config.seed / 100})
        if rate == 1.0 and run.config.seed == 8:
            record = structs.replace(record, status=Status.DIVERGED, validation={}, results=[])
        if rate == 0.01 and run.config.seed == 7:
            record = structs.replace(record, wall_s=3600.0, started="2026-02-02T00:00:00+00:00")
        leave(runs, record)
    grid = collect.decided_by_runs(grid)
    for run in grid.runs():
        if not (run.folder / "attempts").exists():
            leave(runs, record_for(run))
    found = collect.from_runs(grid, pytest.fail)
    yield judge(build(grid, found)), grid, found
    file.unlink()


def test_every_candidate_has_its_score_its_runs_and_what_became_of_it(made):
    cell = made[0].cells["chosen", "accuracy"]
    plain = candidates.as_json(cell)
    assert [one["set"]["model.optimizer.lr"] for one in plain] == [0.01, 0.1, 1.0]
    assert [one["score"] for one in plain] == [pytest.approx(0.085), pytest.approx(0.175), None]
    assert [one["status"] for one in plain] == ["done", "done", "diverged"]
    assert [one["chosen"] for one in plain] == [False, True, False]
    for one in plain:
        assert [run["seed"] for run in one["runs"]] == [7, 8]
        for run in one["runs"]:
            config = made[2][run["key"]].config
            assert config["model"]["optimizer"]["lr"] == one["set"]["model.optimizer.lr"]
    assert candidates.as_json(made[0].cells["fixed", "accuracy"]) == []


def test_in_json_and_in_the_explained_cell(made):
    plain = candidates.as_json(made[0].cells["chosen", "accuracy"])
    whole = json_csv.as_json(made[0], source="runs")
    assert [cell["candidates"] for cell in whole["cells"]] == [plain, []]
    found = explain.explain(*made, "chosen,accuracy")
    assert json.loads(json.dumps(found.as_json()))["candidates"] == plain
    lines = found.as_text().splitlines()
    at = lines.index("    candidates by val/accuracy, the largest mean over the tuning seeds:")
    (_, best, lost) = lines[at + 1 : at + 4]
    key, other = (run["key"][:8] for run in plain[1]["runs"])
    assert best.split(maxsplit=1)[0] == "model.optimizer.lr=0.1"
    assert best.endswith(f"   0.175  seed 7 {key}, seed 8 {other}  chosen")
    assert "  diverged  seed 7 " in lost
    assert not explain.explain(*made, "fixed,accuracy").as_json()["candidates"]


def test_a_choice_that_waits_shows_what_it_waits_for(made, runs):
    _, grid, _ = made
    first = grid.tuning_runs()[0]
    for file in first.folder.rglob(records.RUN_RECORD):
        file.unlink()
    undecided = collect.decided_by_runs(plan(NAME))
    table = build(undecided, collect.from_runs(undecided, pytest.fail))
    cell = table.cells["chosen", "accuracy"]
    shown = candidates.of(cell)
    assert (shown[0].status, shown[0].said) == ("partial", "partial")
    assert not any(one.chosen for one in shown)


def test_hours_and_runs_below_a_table_count_those_of_tuning_and_say_so(made):
    said = formatting.provenance(made[0])
    assert said.startswith("10 runs, 1.00 h in all, of which tuning 6 runs, 1.00 h; ")
    assert said.endswith("2026-01-01 to 2026-02-02")
    assert len(made[0].records) == 4  # behind the cells, as before


def test_on_the_page_of_a_cell(made):
    table, grid, found = made
    source = ShownTable(grid, table, dict(found), lambda _: [])
    key = candidates.of(table.cells["chosen", "accuracy"])[1].keys[7]
    shorts = {one: one[:16] for one in found}
    pages = {key[:12]: "run.html?x"}
    files = dict(table_pages.files(source, shorts, pages))
    data = {place: files[view.data] for place, view in cell_view.views(source).items()}
    chosen = data["chosen", "accuracy"].replace('\\"', '"')
    assert "<b>model.optimizer.lr=0.1</b> (chosen)" in chosen
    assert f'7: <a href="../../run.html?x"><code>{key[:12]}</code></a>' in chosen.replace("\\n", "")
    assert "By <code>val/accuracy</code>, the largest mean" in chosen
    assert ">diverged</td>" in chosen
    assert "Candidates" not in data["fixed", "accuracy"]
