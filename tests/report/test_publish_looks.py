"""A published table that gets more seeds: by the runs that there are, and by what is published."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from retable.report import publish
from retable.report.explain import explain
from retable.report.json_csv import as_json
from retable.report.listing import show_text
from retable.report.restore import restore
from retable.report.site.cell_view import seeds
from retable.report.site.inputs import ShownTable
from retable.runs import published_records
from retable.runs.records import Status
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.verdicts.judge import judge
from retable.util import paths
from retable.util.errors import UserError
from support.index import record_for
from support.records import leave

FOLDER = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table"
NAME = "digits/looked"
TEXT = """\
paper: digits
title: Accuracy, looked at again
source: {paper_ref: "Table 3", own: true}
metrics: {accuracy: {key: test/accuracy, unit: "%", direction: max, margin: 1.0}}
seeds: {paper: 4}
looks: {fixed: 2026-01-02, at: [[2, 4], [1, 3]]}
columns:
  many: {metric: accuracy, experiment: {paper: digits/base}}
  few: {metric: accuracy, experiment: {paper: digits/base}, seeds: 3,
        overrides: [data.batch_size=16]}
rows: {slow: [model.optimizer.lr=0.01], fast: [model.optimizer.lr=0.1]}
reported: {fast: {many: {value: "20.0", n: 1, grade: primary, where: "Table 3"}}}
claims:
  - {id: C1, statement: Fast is better, kind: ordering, better: fast, than: slow, on: many}
  - {id: C2, statement: Fast is better, kind: ordering, better: fast, than: slow}
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """The table as planned, and results of its own."""
    file = FOLDER / f"{NAME}.yaml"
    file.write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    yield plan(NAME)
    file.unlink()


def runs_of(grid, column, numbers):
    """Runs of a column's cells with some of the seeds, given by their numbers."""
    cells = [cell for (_, name), cell in grid.cells.items() if name == column]
    return [run for cell in cells for n, run in enumerate(grid.cell_runs(cell)) if n in numbers]


def do(runs):
    """Leave what the runs leave; about 90 % for the fast rate, 50 % for the slow."""
    for run in runs:
        seed, fast = run.config.seed, run.config.model["optimizer"]["lr"] > 0.05
        leave(run.folder.parents[1], record_for(run, 0.5 + 0.4 * fast + 0.01 * (seed % 3)))


def judged_here(grid):
    return judge(build(grid, collect.from_runs(grid, pytest.fail)))


def judged_there(grid):
    return judge(build(grid, collect.from_results(grid, pytest.fail)))


def ns(table):
    return {column: cell.n for (_, column), cell in table.cells.items()}


@pytest.mark.slow
def test_all_seeds_are_planned_and_a_table_shows_the_looks_that_are_taken(grid):
    assert {len(grid.cell_runs(cell)) for cell in grid.cells.values()} == {4, 3}
    assert len(list(grid.runs())) == 14
    # What had been published before: the first look.
    do([*runs_of(grid, "many", {0, 1}), *runs_of(grid, "few", {0})])
    page, table = publish.publish(grid)
    assert ns(table) == {"many": 2, "few": 1}
    first = page.read_text(encoding="utf-8")
    assert "2, then 4 seeds (α 0.0167, then 0.0333)" in first
    assert "2 cells of 2, then 4 seeds: look 1, seeds 2, 3 are waiting" in first
    assert "interval, at the level of its look" in first
    assert table.cells["fast", "many"].judged.difference.level == pytest.approx(1 - 0.05 / 3)
    assert not published_records.looks_file(NAME, "paper").exists()

    # Some of the further seeds: published beside, and in no number.
    do(runs_of(grid, "many", {2}))
    assert judged_here(grid).cells == table.cells
    page, more = publish.publish(grid)
    assert page.read_text(encoding="utf-8") == first
    assert (more.cells, more.claims, more.remarks) == (table.cells, table.claims, table.remarks)
    assert len(more.records) == 6
    assert len(published_records.read(published_records.parquet_file(NAME, "paper"))) == 8
    assert judged_there(grid).cells == more.cells

    # A column that is complete shows its second look, and a claim over both waits.
    shutil.rmtree(runs_of(grid, "many", {2})[0].folder)
    with pytest.raises(UserError, match="7 finished runs are here, 8 are published"):
        publish.publish(grid)
    do(runs_of(grid, "many", {2, 3}))
    page, second = publish.publish(grid)
    assert ns(second) == {"many": 4, "few": 1}
    assert second.claims[0].verdict == "upheld"
    assert second.claims[0].marks == ["settled at 2 seeds"]
    assert second.claims[1] == table.claims[1]
    assert ": look 2, the last; 2 cells of 1, then 3 seeds: look 1" in second.remarks[1]
    assert judged_there(grid).cells == second.cells

    do(list(grid.runs()))
    page, last = publish.publish(grid)
    assert ns(last) == {"many": 4, "few": 3}
    assert [c.effect.alpha for c in last.claims] == pytest.approx([0.05 * 2 / 6, 0.05 * 4 / 6])
    assert "waiting" not in page.read_text(encoding="utf-8")
    assert json.dumps(as_json(last, source="results"))


def test_runs_of_a_look_that_is_not_taken_are_behind_no_cell(grid):
    do([*runs_of(grid, "many", {0, 1}), *runs_of(grid, "few", {0})])
    (run, *_) = runs_of(grid, "many", {2})
    leave(run.folder.parents[1], record_for(run, status=Status.DIVERGED, error="nan"))
    found = collect.from_runs(grid, pytest.fail)
    table = judge(build(grid, found))
    assert (table.n_failed, len(table.lost), len(table.records)) == (0, 0, 6)
    said = explain(table, grid, found, "slow,many")
    assert list(said.keys) == [0, 1]
    assert "2 of 2 planned seeds" in said.as_text()
    shown = ShownTable(grid, table, found, lambda _: [])
    assert [one.seed for one in seeds(shown, ("slow", "many"))] == [0, 1]


def test_a_part_of_the_seeds_is_judged_as_the_first_look(grid):
    do(runs_of(grid, "many", {0, 1, 2}))
    part = plan(NAME, n_seeds=3, columns=["many"])
    table = judged_here(part)
    assert ns(table) == {"many": 2}
    assert table.cells["fast", "many"].judged.difference.level == pytest.approx(1 - 0.05 / 3)


def test_restored_records_are_all_that_were_published(grid, runs):
    do([*runs_of(grid, "many", {0, 1, 2}), *runs_of(grid, "few", {0})])
    publish.publish(grid)
    shutil.rmtree(runs)
    assert restore(grid).written == 8
    assert ns(judged_here(grid)) == {"many": 2, "few": 1}


def test_a_table_has_looks_of_its_file_or_until_decided(grid, runs):
    file = collect.looks_of(grid)
    file.parent.mkdir(parents=True)
    file.write_text('{"looks": [2, 3], "fixed": "2026-01-01"}')
    with pytest.raises(UserError, match="a table has either"):
        collect.decided_by_runs(grid)


def test_the_file_in_words_and_as_json_has_its_looks(grid):
    said = show_text(NAME, grid.spec)
    assert "looks: at 2, then 4; 1, then 3 seeds, fixed on 2026-01-02, protocol paper" in said
    assert grid.spec.model_dump(mode="json")["looks"]["fixed"] == "2026-01-02"


def test_other_protocols_are_judged_once(grid):
    spec = grid.spec.model_copy(
        update={"looks": grid.spec.looks.model_copy(update={"protocol": "x"})}
    )
    assert replace(grid, spec=spec).at_looks() == []
