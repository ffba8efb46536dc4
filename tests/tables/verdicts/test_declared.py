"""Looks that a table file declares: what each is judged at, what is final, and what waits."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date
from statistics import fmean, stdev

import pytest
from scipy import stats

from retable.tables.aggregate import Table
from retable.tables.at_looks import last_taken
from retable.tables.verdicts.course import Looks
from retable.tables.verdicts.judge import judge
from support.judge import cell_of, reported, spec_of

DAY = date(2026, 1, 2)
WORSE = {"id": "C1", "kind": "ordering", "better": "a", "than": "b"}
NUMBER = {"value": "3.00", "spread": "0.01", "spread_kind": "std", "n": 1000}


def spread(centre, size, n, seed):
    rng = random.Random(seed)
    return [rng.gauss(centre, size) for _ in range(n)]


def two_columns(claims=(), numbers=None, **rest):
    """x is looked at with 3 and 10 seeds, y with 2 and 6."""
    column = {"metric": "error", "experiment": "digits/base"}
    return spec_of(
        ["a", "b"],
        {"x": column, "y": {**column, "seeds": 6}},
        numbers or {},
        claims,
        {"margin": 0.2, **rest.pop("metric", {})},
        seeds=10,
        looks={"fixed": DAY, "at": [[3, 10], [2, 6]]},
        **rest,
    )


def looked_at(spec, values, done, planned=None):
    """The table with so many runs done in each column, or in each (row, column)."""
    planned = planned or {"x": [3, 10], "y": [2, 6]}
    at_looks = []
    for number in range(2):
        cells = {}
        for (row, column), all_values in values.items():
            n = planned[column][number]
            have = all_values[: min(n, done.get((row, column), done[column]))]
            cells[row, column] = cell_of(spec, row, column, have, planned=n)
        at_looks.append(cells)
    cells = last_taken(spec, at_looks)
    return Table("digits/made", spec, "paper", cells, {}, 0, at_looks=at_looks)


def grid_of(a=1.0, b=2.0, size=0.3):
    return {
        (row, column): spread(centre, size, 10, seed)
        for seed, (row, column, centre) in enumerate(
            [("a", "x", a), ("a", "y", a), ("b", "x", b), ("b", "y", b)]
        )
    }


def test_shares_are_in_proportion_to_seeds_of_the_cells_own_looks():
    assert Looks([30, 100], "").alphas == pytest.approx([0.05 * 30 / 130, 0.05 * 100 / 130])
    assert Looks([5, 30], "").alphas == pytest.approx([0.05 * 5 / 35, 0.05 * 30 / 35])
    numbers = {"a": {"x": reported(**NUMBER), "y": reported(**NUMBER)}}
    on_x, both = {**WORSE, "on": "x"}, {**WORSE, "id": "C2"}
    spec = two_columns([on_x, both], numbers)
    values = grid_of(3.2, 3.2, 1.0)
    first = judge(looked_at(spec, values, {"x": 3, "y": 2}))
    assert first.cells["a", "x"].judged.difference.level == pytest.approx(1 - 0.05 * 3 / 13)
    assert first.cells["a", "y"].judged.difference.level == pytest.approx(1 - 0.05 * 2 / 8)
    assert [c.effect.alpha for c in first.claims] == pytest.approx([0.05 * 3 / 13, 0.05 * 3 / 13])
    second = judge(looked_at(spec, values, {"x": 10, "y": 6}))
    assert second.cells["a", "x"].judged.difference.level == pytest.approx(1 - 0.05 * 10 / 13)
    assert second.cells["a", "y"].judged.difference.level == pytest.approx(1 - 0.05 * 6 / 8)
    assert [c.effect.alpha for c in second.claims] == pytest.approx([0.05 * 10 / 13, 0.05 * 6 / 8])


def by_hand(values, alpha):
    """Verdicts of a's cell and of the claim that a is below b, from the formulas alone."""
    a, b = values
    n = len(a)
    ours, theirs = stdev(a) ** 2 / n, 0.01**2 / 1000
    total = ours + theirs
    df = total**2 / (ours**2 / (n - 1) + theirs**2 / 999)
    half = stats.t.ppf(1 - alpha / 2, df) * total**0.5 + 0.005
    d = fmean(a) - 3.0
    if abs(d) + half <= 0.2:
        cell = "reproduced"
    elif abs(d) > half:
        cell = "worse" if d > 0 else "better"
    else:
        cell = "consistent" if abs(d) <= 0.2 else "undecided"
    up = stats.ttest_rel(b, a, alternative="greater").pvalue
    claim = "upheld" if up <= alpha else "contradicted" if 1 - up <= alpha else "undecided"
    return cell, claim


def test_two_looks_by_hand():
    """What is settled at the first look is final, and the rest is judged at the second."""
    spec = two_columns([{**WORSE, "on": "x"}], {"a": {"x": reported(**NUMBER)}})
    final = {"reproduced", "worse", "better", "upheld", "contradicted"}
    seen = set()
    for seed in range(36):
        apart, size = 0.15 * (seed % 4), 0.05 + 0.2 * (seed % 3)
        values = {
            ("a", "x"): spread(3.0, size, 10, 1000 + seed),
            ("b", "x"): spread(3.0 + apart, size, 10, 2000 + seed),
            ("a", "y"): [1.0] * 10,
            ("b", "y"): [1.0] * 10,
        }
        table = judge(looked_at(spec, values, {"x": 10, "y": 6}))
        looks = [by_hand([values[row, "x"][:n] for row in "ab"], 0.05 * n / 13) for n in (3, 10)]
        said = table.cells["a", "x"].judged.kind, table.claims[0].verdict
        for what, first, second in zip(said, *looks, strict=True):
            assert what == (first if first in final else second)
            seen.add((first in final, second in final, first == second))
        early = [first in final for first in looks[0]]
        for marks, settled in zip(
            (table.cells["a", "x"].judged.marks, table.claims[0].marks), early, strict=True
        ):
            assert ("settled at 3 seeds" in marks) == settled
        first = judge(looked_at(spec, values, {"x": 3, "y": 2}))
        assert (first.cells["a", "x"].judged.kind, first.claims[0].verdict) == looks[0]
    assert {(True, True, True), (False, True, False), (False, False, True)} <= seen


def test_a_look_is_taken_cell_by_cell_and_by_a_claim_when_all_its_cells_can():
    claims = [{**WORSE, "on": "x"}, {**WORSE, "id": "C2", "on": "y"}, {**WORSE, "id": "C3"}]
    spec = two_columns(claims, {"a": {"x": reported(**NUMBER), "y": reported(**NUMBER)}})
    values = grid_of(1.0, 1.05, 1.0)
    table = judge(looked_at(spec, values, {"x": 10, "y": 5}))
    assert {place: cell.n for place, cell in table.cells.items()} == {
        ("a", "x"): 10, ("b", "x"): 10, ("a", "y"): 2, ("b", "y"): 2,
    }  # fmt: skip
    assert [c.effect.alpha for c in table.claims] == pytest.approx(
        [0.05 * 10 / 13, 0.05 * 2 / 8, 0.05 * 3 / 13]
    )
    first = judge(looked_at(spec, values, {"x": 3, "y": 2}))
    assert table.claims[1:] == first.claims[1:]
    assert table.cells["a", "y"] == first.cells["a", "y"]
    assert table.remarks[1] == (
        "Looks taken: 2 cells of 3, then 10 seeds: look 2, the last; 2 cells of 2, then 6 seeds:"
        " look 1, seeds 2 to 5 are waiting."
    )
    # One run is missing in one row: its claim waits, the other row of the column does not.
    uneven = judge(looked_at(spec, values, {"x": 10, "y": 6, ("b", "x"): 9}))
    assert (uneven.cells["a", "x"].n, uneven.cells["b", "x"].n) == (10, 3)
    assert uneven.claims[0] == first.claims[0]
    assert "1 cell of 3, then 10 seeds: look 1, seeds 3 to 9 are waiting" in uneven.remarks[1]


def test_seeds_of_a_look_that_is_not_complete_enter_no_number():
    spec = two_columns([WORSE], {"a": {"x": reported(**NUMBER)}})
    values = grid_of(1.0, 1.1, 0.5)
    first = judge(looked_at(spec, values, {"x": 3, "y": 2}))
    more = judge(looked_at(spec, values, {"x": 9, "y": 5}))
    assert more.cells == first.cells
    assert (more.claims, more.remarks, more.tally) == (first.claims, first.remarks, first.tally)
    assert "fixed on 2026-01-02" in more.remarks[0]
    assert "3, then 10 seeds (α 0.0115, then 0.0385)" in more.remarks[0]


def test_what_waits_for_its_first_look_is_partial():
    spec = two_columns([{**WORSE, "on": "x"}], {"a": {"x": reported(**NUMBER)}})
    table = judge(looked_at(spec, grid_of(), {"x": 2, "y": 2}))
    assert table.cells["a", "x"].judged.kind == "partial"
    assert table.claims[0].verdict == "partial"
    assert (
        "2 cells of 3, then 10 seeds: look none yet, seeds 0 to 2 are waiting" in table.remarks[1]
    )


def test_a_settled_verdict_stays_beside_the_mean_of_all_seeds():
    spec = two_columns([], {"a": {"x": reported(**NUMBER)}})
    early, late = [4.0, 4.01, 3.99], [1.0] * 7
    values = {**grid_of(), ("a", "x"): [*early, *late]}
    cell = judge(looked_at(spec, values, {"x": 10, "y": 2})).cells["a", "x"]
    assert (cell.n, cell.mean) == (10, pytest.approx(fmean([*early, *late])))
    assert (cell.judged.kind, cell.judged.difference.d) == ("worse", pytest.approx(1.0))
    assert "settled at 3 seeds" in cell.judged.marks


def test_a_claim_over_several_looks_says_at_which_seeds_it_was_settled():
    spec = two_columns([WORSE])
    table = judge(looked_at(spec, grid_of(0, 9, 0.01), {"x": 10, "y": 6}))
    assert table.claims[0].verdict == "upheld"
    assert table.claims[0].marks == ["settled at 2 and 3 seeds"]


def test_bold_is_at_the_level_of_the_look_that_the_column_has_taken():
    spec = two_columns([])
    a, b = [1.0, 1.1, 0.9], [1.3, 1.7, 1.4]
    p = 2 * stats.ttest_rel(b, a, alternative="greater").pvalue
    assert 0.05 * 3 / 13 < p < 0.05
    values = {**grid_of(), ("a", "x"): [*a, *[1.0] * 7], ("b", "x"): [*b, *[3.0, 3.1] * 3, 3.0]}
    table = judge(looked_at(spec, values, {"x": 3, "y": 2}))
    assert not table.cells["a", "x"].judged.bold
    table = judge(looked_at(spec, values, {"x": 10, "y": 2, ("b", "x"): 9}))
    assert not table.cells["a", "x"].judged.bold
    table = judge(looked_at(spec, values, {"x": 10, "y": 2}))
    assert table.cells["a", "x"].judged.bold


def test_a_cell_waits_for_the_row_that_it_is_relative_to():
    spec = two_columns([], {"a": {"x": reported(**NUMBER)}}, metric={"relative_to": "b"})
    values = grid_of(1.0, 1.0)
    table = looked_at(spec, values, {"x": 10, "y": 2, ("b", "x"): 9})
    assert (table.cells["a", "x"].n, table.cells["b", "x"].n) == (3, 3)
    whole = looked_at(spec, values, {"x": 10, "y": 2})
    assert whole.cells["a", "x"].n == 10


def test_a_number_that_is_the_same_for_every_seed_is_settled_by_one_run():
    fixed = {"deterministic": True, "tolerance": 0.1, "margin": None}
    spec = two_columns([], {"a": {"x": reported("1.00")}}, metric=fixed)
    planned = {"x": [1, 1], "y": [1, 1]}
    table = judge(looked_at(spec, grid_of(1.0, size=0), {"x": 1, "y": 1}, planned))
    judged = table.cells["a", "x"].judged
    assert (judged.kind, judged.marks) == ("reproduced", [])


def test_a_row_that_is_reported_only_has_no_looks():
    spec = two_columns([WORSE], {"b": {"x": reported("1.0")}})
    table = looked_at(spec, {p: v for p, v in grid_of().items() if p[0] == "a"}, {"x": 3, "y": 2})
    quoted = {("b", "x"): cell_of(spec, "b", "x", [])}
    at_looks = [{**cells, **quoted} for cells in table.at_looks]
    table = judge(replace(table, cells={**table.cells, **quoted}, at_looks=at_looks))
    assert table.cells["b", "x"].judged.kind == "not run"
    assert table.claims[0].text == "not run"
