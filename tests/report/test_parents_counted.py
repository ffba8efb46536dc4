"""Hours of a table count the runs that others start from, and say so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from retable.report import formatting, results_index
from retable.runs.records import ResultRow, Status
from retable.tables import collect
from retable.tables.aggregate import build
from support.chained import left

NUMBERS = [ResultRow(metric="test/accuracy", value=0.5)]


def built(grid, **of_parents):
    """The table of runs of an hour, and of two for those that they start from."""
    for run in grid.runs():
        above = run.parent is None
        hours = 2 if above else 1
        left(run, wall_s=3600.0 * hours, results=NUMBERS, **(of_parents if above else {}))
    return build(grid, collect.from_runs(grid, pytest.fail))


def test_parents_are_counted_once_below_a_table_and_in_the_overview(chained, runs):
    table = built(chained)
    said = formatting.provenance(table)
    assert said.startswith("6 runs, 8.00 h in all, of which 2 runs, 4.00 h, that others start from")
    assert (len(table.records), len(table.parents)) == (4, 2)
    assert sum(results_index._hours([table, table]).values()) == 8 * 3600


def test_those_that_are_not_done_are_not(chained, runs):
    table = built(chained, status=Status.FAILED)
    assert formatting.provenance(table).startswith("4 runs, 4.00 h in all; ")


def test_with_tuning_beside_them(chained, runs):
    table = built(chained)
    tuned = {key: structs.replace(record, wall_s=36.0) for key, record in table.parents.items()}
    said = formatting.provenance(replace(table, tuning=tuned))
    assert ", of which tuning 2 runs, 0.02 h and 2 runs, 4.00 h, that others start from; " in said
