"""Numbers that a finished run may lack by nature: it counts neither as planned nor as done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retable.report import footnotes, formatting
from retable.report.explain import explain
from retable.report.site.cell_view import seeds
from retable.report.site.inputs import ShownTable
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.asked import Asked
from retable.tables.grid import Grid, plan
from retable.tables.unrecorded import unrecorded
from retable.tables.verdicts.claims import judge_claim
from support.judge import cell_of, spec_of, table_of
from support.mini import record

WHAT = "no collapse"


def with_absent(grid: Grid, what: str | None) -> Grid:
    metrics = {
        name: metric.model_copy(update={"absent": what if name == "accuracy" else None})
        for name, metric in grid.spec.metrics.items()
    }
    return replace(grid, spec=grid.spec.model_copy(update={"metrics": metrics}))


@pytest.fixture
def grid() -> Grid:
    return with_absent(plan("digits/accuracy"), WHAT)


def built(grid: Grid, *values: float | None):
    """The table where the first runs of a cell are done, some without the number."""
    runs = grid.cell_runs(grid.cells["slow", "accuracy"])
    found = [
        record(run, {"test/loss": 1.0} if value is None else {"test/accuracy": value})
        for run, value in zip(runs, values, strict=False)
    ]
    return build(grid, {one.key: one for one in found})


def test_a_mean_is_over_the_runs_that_have_the_number(grid):
    table = built(grid, 0.9, None, 0.97)
    cell = table.cells["slow", "accuracy"]
    assert (cell.n, cell.n_planned, cell.n_done, cell.n_absent) == (2, 2, 2, 1)
    assert cell.mean == pytest.approx(93.5)
    assert cell.marks == ["1 of 3 finished runs: no collapse"]
    assert not cell.waits
    (note,) = (n for n in footnotes.mark_notes(table) if n.text.endswith(WHAT))
    assert note.cells == [("slow", "accuracy")]
    without = built(with_absent(grid, None), 0.9, None, 0.97).cells["slow", "accuracy"]
    assert (without.n_planned, without.n_absent, without.marks) == (3, 0, ["partial 2/3"])


@pytest.mark.parametrize("values", [(0.9, None, 0.97), (None, None, 0.97), (None, None, None)])
def test_all_of_its_runs_are_shown_wherever_the_number_is_lacking(grid, values):
    table = built(grid, *values)
    place = ("slow", "accuracy")
    got = {seed: None if v is None else 100 * v for seed, v in enumerate(values)}
    explained = explain(table, grid, table.records, ",".join(place))
    assert explained.keys.keys() == got.keys()
    assert [run["value"] for run in explained.runs()] == pytest.approx([*got.values()])
    source = ShownTable(grid, table, dict(table.records), lambda _: [])
    assert {one.seed: one.value for one in seeds(source, place)} == pytest.approx(got)


def test_runs_that_are_not_done_are_still_planned(grid):
    cell = built(grid, 0.9, None).cells["slow", "accuracy"]
    assert (cell.n, cell.n_planned, cell.n_done, cell.n_absent) == (1, 2, 1, 1)
    assert cell.marks == ["1 of 2 finished runs: no collapse", "partial 1/2"]
    assert cell.waits


def test_where_no_run_has_it_there_is_no_number_and_nothing_is_missing(grid):
    table = built(grid, None, None, None)
    cell = table.cells["slow", "accuracy"]
    assert (cell.n, cell.n_planned, cell.n_absent) == (0, 0, 3)
    assert cell.marks == ["3 of 3 finished runs: no collapse"]
    assert formatting.ours(cell, grid.spec.metrics["accuracy"]) == "–"
    history = collect.history_of_runs(grid)
    assert unrecorded(grid, table, table.records, history) == []
    plain = with_absent(grid, None)
    told = unrecorded(plain, built(plain, None, None, None), table.records, history)
    assert [one.is_mistake for one in told] == [True]


def test_the_first_run_that_lacks_it_does_not_stop_the_others(grid):
    names = {name.metric for name in Asked([grid])._wanted}
    assert "test/accuracy" not in names
    assert "test/accuracy" in {name.metric for name in Asked([with_absent(grid, None)])._wanted}


def test_claims_are_tested_on_what_there_is_and_say_why_where_there_is_nothing():
    claim = {"id": "C1", "kind": "threshold", "better": "low", "at_most": 3.0}
    made = spec_of(["low"], claims=[claim])
    metrics = {n: m.model_copy(update={"absent": WHAT}) for n, m in made.metrics.items()}
    made = made.model_copy(update={"metrics": metrics})

    def judged(cell):
        return judge_claim(table_of(made, {}, more={("low", "x"): cell}), made.claims[0])

    some = replace(cell_of(made, "low", "x", [1.0, 1.1, 0.9]), n_absent=2)
    assert judged(some).verdict == "upheld"
    waiting = replace(cell_of(made, "low", "x", [], planned=2), n_absent=3)
    assert (judged(waiting).verdict, judged(waiting).text) == ("partial", "not run")
    none = replace(cell_of(made, "low", "x", []), n_absent=5)
    assert (judged(none).verdict, judged(none).why) == ("not judged", WHAT)
