"""Columns made of a row's numbers in other columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from retable.runs.records import Status
from retable.tables import over_columns
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.verdicts import sequential
from retable.tables.verdicts.judge import judge
from support.judge import spec_of, table_of
from support.over_columns import DELTA_M, MR, NAME, UNEVEN, VALUES, records_of, written


@pytest.fixture(scope="module")
def grid():
    with written():
        return plan(NAME)


def built(grid, values=None, **changes):
    return build(grid, records_of(grid, values, **changes))


def lacking(row: str, seed: int, now=None):
    """The values without those of a run."""
    return VALUES | {row: [now if s == seed else v for s, v in enumerate(VALUES[row])]}


@pytest.mark.parametrize(
    ("column", "by_row"), [("delta_m", DELTA_M), ("uneven", UNEVEN), ("mr", MR)]
)
def test_closed_forms_with_a_task_of_which_more_is_better(grid, column, by_row):
    table = built(grid)
    for row, values in by_row.items():
        cell = table.cells[row, column]
        assert cell.values == pytest.approx(dict(enumerate(values)), abs=1e-12)
        assert cell.mean == pytest.approx(np.mean(values), abs=1e-12)
        assert cell.std == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert (cell.n, cell.n_planned, cell.marks, cell.waits) == (3, 3, [], False)
        assert cell.run_keys == table.cells[row, "acc"].run_keys  # both columns are of one run
    # As many papers print it: of the means over seeds, against a constant.
    means = np.mean(VALUES["ls"], axis=0) / np.mean(VALUES["stl"], axis=0)
    assert table.cells["ls", "delta_m"].mean == pytest.approx(50 * (1 - means[0] + means[1] - 1))
    assert list(table.cells) == [
        (row, column)
        for row in grid.spec.rows
        for column in grid.spec.columns
        if (row, column) != ("stl", "delta_m")
    ]


def test_the_base_has_no_change_and_what_equals_it_has_none(grid):
    table = built(grid, VALUES | {"gap": [(0.5, 2.0)] * 3})
    assert table.cells["gap", "delta_m"].values == {0: 0, 1: 0, 2: 0}
    assert ("stl", "delta_m") not in table.cells
    assert table.cells["stl", "mr"].marks == ["not run"]  # excluded, and reported only
    assert table.cells["stl", "uneven"].values == pytest.approx({0: 10, 1: 0, 2: 10})  # fixed base


def test_it_plans_no_runs_and_names_those_that_it_needs(grid):
    assert {column for _, column in grid.cells} == {"acc", "loss"}
    assert len(list(grid.runs())) == 12
    with written():
        one, every = (plan(NAME, rows=["ls"], columns=[name]) for name in ("delta_m", "mr"))
        part, smoke = plan(NAME, rows=["ls"]), plan(NAME, "smoke")
    assert set(one.cells) == {(row, c) for row in ("ls", "stl") for c in ("acc", "loss")}
    assert {row for row, _ in every.cells} == {"ls", "gap", "pair"}
    # Of a part of the table, there is what can be had of that part.
    cells = build(part, {}).cells
    assert {c for (_, c), cell in cells.items() if cell.n_planned} == {"acc", "loss", "uneven"}
    assert len(list(part.runs())) == 3
    # The smoke protocol has one of the columns only.
    cells = build(smoke, {}).cells
    assert {c for (_, c), cell in cells.items() if cell.n_planned} == {"acc"}


def test_a_seed_counts_that_all_parts_have(grid):
    table = built(grid, lacking("gap", 1))
    assert table.cells["gap", "delta_m"].values.keys() == {0, 2}
    assert table.cells["gap", "delta_m"].marks == ["partial 2/3"]
    assert table.cells["ls", "delta_m"].n == 3
    # A rank is among all rows, so that it lacks what any of them does.
    for row in ("ls", "gap", "pair"):
        cell = table.cells[row, "mr"]
        assert cell.values == pytest.approx({0: MR[row][0], 2: MR[row][2]})
        assert (cell.marks, cell.waits) == (["partial 2/3"], True)
    # What is excluded has no say.
    assert built(grid, lacking("stl", 0)).cells["ls", "mr"].n == 3


def test_there_is_no_number_before_the_base_is_all_there(grid):
    table = built(grid, lacking("stl", 2))
    cell = table.cells["ls", "delta_m"]
    assert (cell.values, cell.n_planned, cell.waits) == ({}, 3, True)
    assert cell.marks == ["partial 0/3"]
    assert table.cells["ls", "uneven"].n == 3  # from fixed values
    records = records_of(grid)
    base = grid.cell_runs(grid.cells["stl", "acc"])[1]
    lost = replace(records[base.key], status=Status.DIVERGED, results=[])
    cell = judge(build(grid, records | {base.key: lost})).cells["ls", "delta_m"]
    assert cell.n == 3  # over now: the mean of survivors, and said to be
    assert cell.judged.kind == cell.marks[-1].split()[0] == "diverged"
    own = grid.cell_runs(grid.cells["gap", "acc"])[1]
    lost = replace(records[own.key], status=Status.DIVERGED, results=[])
    table = build(grid, records | {own.key: lost})
    assert table.cells["gap", "delta_m"].marks == ["partial 2/3", "diverged 1/3"]
    assert table.cells["ls", "mr"].ended == {"diverged": 1}
    assert not table.cells["ls", "mr"].waits


def test_marks_are_those_of_the_parts(grid):
    records = records_of(grid)
    first = grid.cell_runs(grid.cells["stl", "acc"])[0].key
    table = build(grid, records | {first: replace(records[first], fingerprint="old")})
    assert table.cells["ls", "delta_m"].marks == ["partly stale"]
    assert table.cells["ls", "uneven"].marks == []  # from fixed values
    table = build(grid, {k: replace(r, fingerprint="old") for k, r in records.items()})
    assert table.cells["ls", "delta_m"].marks == ["stale"]
    other = grid.cell_runs(grid.cells["gap", "acc"])[0].key
    table = build(grid, records | {other: replace(records[other], device="cuda")})
    assert table.cells["gap", "delta_m"].marks == ["mixed devices"]
    assert table.cells["ls", "delta_m"].marks == []
    assert table.cells["ls", "mr"].marks == ["mixed devices"]  # its rank is against that run
    zero = built(grid, VALUES | {"stl": [(0.5, 0.0)] * 3}).cells["ls", "delta_m"]
    assert (zero.values, zero.marks) == ({}, ["partial 0/3", "base not positive"])


def test_a_number_that_is_the_same_for_every_seed_counts_for_each():
    with written(("loss: {key", "loss: {deterministic: true, key")):
        grid = plan(NAME)
    table = built(grid)
    assert table.cells["ls", "loss"].n == 1
    assert table.cells["ls", "delta_m"].values == pytest.approx({0: 12.5, 1: 17.5, 2: 22.5})
    assert table.cells["ls", "mr"].n == table.cells["ls", "mr"].n_planned == 3


def test_verdicts_and_claims_are_as_of_any_cell(grid):
    table = judge(built(grid))
    assert table.cells["ls", "mr"].judged.kind in {"consistent", "reproduced", "undecided"}
    assert table.cells["ls", "delta_m"].judged.difference.d == pytest.approx(17.5 - 12.5)
    (claim,) = table.claims
    assert claim.effect.theta == pytest.approx(17.5 + 7.5)  # less is better
    assert claim.effect.paired


def test_looks_are_taken_when_all_parts_are_there():
    looks = "seeds: 3\nlooks: {fixed: 2026-01-02, at: [[2, 3]]}"
    # The claim and what is reported are of all rows, so that all of these have two looks.
    with written(("seeds: {paper: 3, smoke: 1}", looks), (", smoke: digits/smoke", "")):
        grid = plan(NAME)
    table = judge(built(grid, lacking("gap", 2)))
    assert table.cells["ls", "delta_m"].n == 3
    assert (table.cells["ls", "mr"].n, table.cells["gap", "delta_m"].n) == (2, 2)
    assert table.cells["ls", "mr"].marks == []  # of its first look, which is whole
    assert judge(built(grid)).cells["ls", "mr"].n == 3


def test_until_decided_asks_for_the_seeds_of_the_parts(grid):
    fixed = sequential.Looks([2, 3], "2026-01-02")
    first = sequential.followed(grid, fixed, lambda one: records_of(one, lacking("gap", 1)))
    assert first.course.taken == 0
    assert first.course.needed["gap", "acc"] == 2
    second = sequential.followed(grid, fixed, lambda one: records_of(one, lacking("gap", 2)))
    assert second.course.taken == 1
    waiting = sequential.waiting_for(second)
    assert {run.config.seed for run in waiting.runs()} == {0, 1, 2}
    # Open is what was reported of this row: its change needs the base's runs, its rank all rows'.
    assert {place: n for place, n in waiting.n_seeds.items() if place[1] == "acc"} == dict.fromkeys(
        [(row, "acc") for row in ("stl", "ls", "gap", "pair")], 3
    )


# Any numbers

positive = st.floats(min_value=0.01, max_value=1e3)
several = st.integers(1, 4).flatmap(
    lambda k: st.tuples(
        st.lists(st.sampled_from(["min", "max"]), min_size=k, max_size=k),
        st.lists(
            st.lists(positive, min_size=k, max_size=k).map(tuple), min_size=3, max_size=6
        ),
        st.lists(positive, min_size=k, max_size=k),
    )
)  # fmt: skip


def shares_of(kind, directions, rows, **over):
    """What each column gives to every row, of numbers of one seed."""
    names = [f"c{k}" for k in range(len(directions))]
    metrics = {n: {"key": n, "direction": d} for n, d in zip(names, directions, strict=True)}
    metrics |= {"made": {"key": kind, "direction": "min"}}
    columns = {n: {"metric": n, "experiment": "digits/base"} for n in names}
    columns |= {
        "made": {"metric": "made", "over_columns": {"kind": kind, "columns": names, **over}}
    }
    spec = spec_of([f"r{i}" for i in range(len(rows))], columns, metrics=metrics)
    values = {
        f"r{i}": {name: [value] for name, value in zip(names, row, strict=True)}
        for i, row in enumerate(rows)
    }
    cells = table_of(spec, values).cells
    return [
        list(over_columns.shares(spec, cells, f"r{i}", "made", "paper").get(0, {}).values())
        for i in range(len(rows))
    ]


@settings(deadline=None, max_examples=60)
@given(several)
def test_a_relative_change_does_not_depend_on_units(given_):
    directions, rows, factors = given_
    scaled = [[f * v for f, v in zip(factors, row, strict=True)] for row in rows]
    plain = shares_of("relative_change", directions, rows, base={"row": "r0"})
    assert plain[1:] == [
        pytest.approx(one, rel=1e-6, abs=1e-9)
        for one in shares_of("relative_change", directions, scaled, base={"row": "r0"})[1:]
    ]
    for k, direction in enumerate(directions):
        for row, made in zip(rows[1:], plain[1:], strict=True):
            better = row[k] > rows[0][k] if direction == "max" else row[k] < rows[0][k]
            assert (made[k] < 0) == better


@settings(deadline=None, max_examples=60)
@given(several, st.booleans())
def test_a_mean_rank_depends_on_the_order_alone_and_ties_share(given_, tied):
    directions, rows, _ = given_
    if tied:
        rows = [tuple(float(round(v) % 3) for v in row) for row in rows]
    made = shares_of("mean_rank", directions, rows)
    growing = [tuple(v**3 + v for v in row) for row in rows]
    if len({*growing}) == len({*rows}):
        assert shares_of("mean_rank", directions, growing) == made
    for k, direction in enumerate(directions):
        # By brute force: the mean of all places that sorting could give to equal numbers.
        numbers = [row[k] for row in rows]
        order = sorted(numbers, reverse=direction == "max")
        places = [[i + 1 for i, v in enumerate(order) if v == number] for number in numbers]
        assert [one[k] for one in made] == [np.mean(p) for p in places]
        assert sum(one[k] for one in made) == len(rows) * (len(rows) + 1) / 2
