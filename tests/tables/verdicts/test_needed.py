"""Hours of the seeds that would decide a claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retable.report import claims_text
from retable.runs.record_parts import StartedFrom
from retable.tables.results import Needed
from retable.tables.verdicts.claims import judge_claim
from support.judge import spec_of, table_of
from support.records import plain_record

ORDERING = {"id": "C1", "kind": "ordering", "better": "low", "than": "high"}
VALUES = {"low": {"x": [1.0, 1.2, 0.8]}, "high": {"x": [1.1, 1.15, 1.2]}}


def needed(hours, values=VALUES, claim=ORDERING, above=None, parents=()):
    """Of runs that took so long, by row: a list of seconds by seed, or the row that they are of.

    ``above`` gives the key of what a run of a row and seed starts from.
    """
    spec = spec_of(list(values), claims=[claim])
    table = table_of(spec, values)
    records = {
        f"{row}{seed}": plain_record(
            key=f"{row}{seed}",
            seed=seed,
            wall_s=seconds,
            started_from=StartedFrom(key=above(row, seed), weights_sha256="w") if above else None,
        )
        for row, all_seconds in hours.items()
        if not isinstance(all_seconds, str)
        for seed, seconds in enumerate(all_seconds)
    }
    cells = {}
    for place, cell in table.cells.items():
        row = place[0]
        whose = hours[row] if isinstance(hours.get(row), str) else row
        keys = [f"{whose}{seed}" for seed in range(3)] if hours else []
        cells[place] = replace(cell, run_keys=keys)
    parents = {one.key: one for one in parents}
    table = replace(table, cells=cells, records=records, parents=parents)
    return judge_claim(table, spec.claims[0]).needed


def test_each_seed_takes_what_both_sides_have_taken():
    found = needed({"low": [3600, 7200, 3600], "high": [1800, 1800, 3600]})
    assert found.n > 3
    assert found.hours == pytest.approx((found.n - 3) * (4 / 3 + 2 / 3))


def test_a_run_behind_several_cells_counts_once():
    alone = needed({"low": [3600] * 3, "high": "low"})
    apart = needed({"low": [3600] * 3, "high": [3600] * 3})
    assert apart.hours == pytest.approx(2 * alone.hours)


HOURS = {"low": [3600] * 3, "high": [3600] * 3}


def parent(key, seed, above=None):
    """A run of an hour that others start from."""
    start = None if above is None else StartedFrom(key=above, weights_sha256="w")
    return plain_record(key=key, seed=seed, wall_s=3600, weights_sha256="w", started_from=start)


def test_what_runs_of_a_seed_start_from_is_done_for_each_seed_once():
    alone = needed(HOURS)
    chain = [parent(f"p{s}", s, above=f"q{s}") for s in range(3)]
    chain += [parent(f"q{s}", s) for s in range(3)]
    shared = needed(HOURS, above=lambda row, seed: f"p{seed}", parents=chain)
    assert shared.hours == pytest.approx(2 * alone.hours)  # two for both sides' two
    own = [parent(f"{row}p{s}", s) for row in HOURS for s in range(3)]
    apart = needed(HOURS, above=lambda row, seed: f"{row}p{seed}", parents=own)
    assert apart.hours == pytest.approx(2 * alone.hours)
    # One that another cell of the table shows is among its records.
    shown = needed({**HOURS, "p": [3600] * 3}, above=lambda _, seed: f"p{seed}")
    assert shown.hours == pytest.approx(1.5 * alone.hours)


def test_what_all_seeds_start_from_is_there_already_and_what_is_not_here_is_not_counted():
    alone = needed(HOURS)
    one = needed(HOURS, above=lambda row, seed: "p", parents=[parent("p", 0)])
    assert one.hours == pytest.approx(alone.hours)
    assert needed(HOURS, above=lambda row, seed: "elsewhere").hours == pytest.approx(alone.hours)


def test_without_runs_or_where_nothing_would_decide_there_are_none():
    assert needed({}).hours is None
    same = {"low": {"x": [1.0, 2.0, 3.0]}, "high": {"x": [3.0, 1.0, 2.0]}}
    assert needed({"low": [9] * 3, "high": [9] * 3}, same) == Needed(None, "more than 1,000")


def test_a_claim_that_is_decided_needs_nothing():
    clear = {"low": {"x": [1.0, 1.1, 0.9]}, "high": {"x": [3.0, 3.1, 3.2]}}
    assert needed({"low": [9] * 3, "high": [9] * 3}, clear) is None


def test_it_is_said_in_hours():
    assert claims_text.needed(Needed(22, "about 22", hours=2.5)) == "about 22: 2.5 h more"
    assert claims_text.needed(Needed(None, "more than 1,000")) == "more than 1,000"
