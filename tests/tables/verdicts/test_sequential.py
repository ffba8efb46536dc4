"""Run until decided: who goes on, who stops, and at which level each look judges."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from retable.report import markdown
from retable.tables.aggregate import Table
from retable.tables.verdicts.course import Looks
from retable.tables.verdicts.sequential import decided, dump, extended, fix, follow, load
from retable.util.errors import UserError
from support.judge import cell_of, reported, spec_of

LOOKS = Looks([3, 5, 10, 20], "2026-01-01")
ORDERING = {"id": "C1", "kind": "ordering", "better": "a", "than": "b"}


def spread(centre, size, n=20, seed=1):
    """Values around a centre, the same whenever they are asked for."""
    rng = random.Random(seed)
    return [rng.gauss(centre, size) for _ in range(n)]


class Lab:
    """A table whose runs give fixed values; counts what has been run."""

    def __init__(self, values, spec):
        self.values, self.spec = values, spec
        self.done = {}

    def table_at(self, n_seeds):
        cells = {}
        for row, all_values in self.values.items():
            planned = n_seeds.get((row, "x"), len(all_values))
            have = min(self.done.get(row, 0), planned)
            cells[row, "x"] = cell_of(self.spec, row, "x", all_values[:have], planned=planned)
        return Table("digits/made", self.spec, "paper", cells, {}, 0)

    def go(self, fixed=LOOKS):
        """Run what the next look needs until none needs anything."""
        while (course := follow(self.table_at, fixed)).needed:
            before = dict(self.done)
            for (row, _), n in course.needed.items():
                self.done[row] = max(n, self.done.get(row, 0))
            assert self.done != before, "a look that runs nothing new never ends"
        return course


def test_a_claim_that_is_plain_stops_early_and_one_that_is_not_goes_on():
    spec = spec_of(["a", "b"], claims=[ORDERING])
    plain = Lab({"a": spread(0, 0.1), "b": spread(9, 0.1, seed=2)}, spec)
    course = plain.go()
    assert plain.done == {"a": 3, "b": 3}
    assert course.settled == {"C1": 1}
    assert course.claims["C1"].verdict == "upheld"
    close = Lab({"a": spread(0, 1), "b": spread(1.5, 1, seed=2)}, spec)
    course = close.go()
    assert close.done["a"] in {5, 10, 20}
    assert course.taken == LOOKS.seeds.index(close.done["a"]) + 1


def test_every_look_judges_at_its_own_level():
    spec = spec_of(["a", "b"], claims=[ORDERING])
    # Significant at 5 % with three seeds, not at the 0.39 % that the first look spends.
    a = [1.0, 1.1, 0.9, *spread(1, 0.1, 17)]
    b = [1.2, 1.25, 1.2, *spread(1, 0.1, 17, seed=3)]
    lab = Lab({"a": a, "b": b}, spec)
    assert stats.ttest_rel(b[:3], a[:3], alternative="greater").pvalue < 0.05
    lab.done = {"a": 3, "b": 3}
    course = follow(lab.table_at, LOOKS)
    assert course.taken == 1
    assert course.claims["C1"].verdict == "undecided"
    assert course.claims["C1"].effect.alpha == pytest.approx(0.05 * 3 / 38)
    assert course.needed == {("a", "x"): 5, ("b", "x"): 5}


NUMBER = {"a": {"x": reported("1.29", spread="0.08", spread_kind="std", n=50)}}


def test_a_cell_is_settled_at_the_level_of_its_look():
    spec = spec_of(["a"], reported=NUMBER, metric={"margin": 0.11})
    lab = Lab({"a": spread(3.0, 0.05)}, spec)
    course = lab.go()
    assert course.settled == {("a", "x"): 1}
    assert course.cells["a", "x"].kind == "worse"
    assert course.cells["a", "x"].difference.level == pytest.approx(1 - 0.05 * 3 / 38)
    same = Lab({"a": spread(1.29, 0.08)}, spec).go()
    assert same.cells["a", "x"].kind == "reproduced"


def test_what_more_seeds_would_hardly_decide_is_dropped_but_not_at_the_first_look():
    # One reported run without a spread: no number of ours reproduces it, as the first look knows.
    spec = spec_of(["a"], reported={"a": {"x": reported("1.29")}}, metric={"margin": 0.05})
    lab = Lab({"a": spread(1.29, 0.08, seed=2)}, spec)
    course = lab.go()
    assert course.dropped == {("a", "x"): 2}
    assert lab.done == {"a": 5}
    assert course.taken == 2


def test_a_tie_is_not_hopeless_because_its_difference_is_small():
    tie = {"id": "C1", "kind": "tie", "better": "a", "than": "b", "margin": 1.0}
    spec = spec_of(["a", "b"], claims=[tie])
    lab = Lab({"a": spread(0, 0.5), "b": spread(0, 0.5, seed=2)}, spec)
    course = lab.go()
    assert course.claims["C1"].verdict == "upheld"
    assert course.dropped == {}


def test_cells_that_nothing_is_said_of_are_filled_at_the_first_look_and_left_there():
    spec = spec_of(["a", "b", "c"], claims=[ORDERING])
    values = {"a": spread(0, 1), "b": spread(1, 1, seed=2), "c": spread(5, 1, seed=3)}
    lab = Lab(values, spec)
    lab.go()
    assert lab.done["c"] == 3
    assert lab.done["a"] > 3


def test_a_look_waits_for_all_of_its_runs():
    spec = spec_of(["a", "b"], claims=[ORDERING])
    lab = Lab({"a": spread(0, 0.1), "b": spread(9, 0.1)}, spec)
    lab.done = {"a": 3, "b": 2}
    course = follow(lab.table_at, LOOKS)
    assert course.taken == 0
    assert course.claims == {}
    assert course.needed == {("a", "x"): 3, ("b", "x"): 3}


def test_further_runs_change_no_verdict_that_has_been_given():
    """Also where somebody has run more seeds: a look is at its own seeds alone."""
    spec = spec_of(["a", "b"], claims=[ORDERING])
    lab = Lab({"a": spread(0, 0.1), "b": spread(9, 0.1)}, spec)
    before = lab.go()
    lab.done = {"a": 20, "b": 20}
    assert follow(lab.table_at, LOOKS) == before


def test_the_table_says_how_it_was_looked_at():
    spec = spec_of(["a", "b"], claims=[ORDERING], reported=NUMBER, metric={"margin": 0.11})
    lab = Lab({"a": spread(3.0, 0.05), "b": spread(9, 0.1)}, spec)
    course = lab.go()
    table = decided(lab.table_at(course.seeds), course)
    assert "settled at 3 seeds" in table.cells["a", "x"].judged.marks
    assert "settled at 3 seeds" in table.claims[0].marks
    assert "1 of 4 taken, α spent 0.0039 of 0.05" in table.remarks[0]
    assert "slightly too extreme" in table.remarks[0]
    assert table.tally.different == 1


@pytest.mark.slow
def test_peeking_without_spending_the_error_errs_and_spending_it_does_not():
    """Two equal methods: how often is one found better at any of the looks?"""
    spec = spec_of(["a", "b"], claims=[ORDERING])
    repetitions, wrong, plain = 600, 0, 0
    for number in range(repetitions):
        values = {row: spread(0, 1, seed=2 * number + i) for i, row in enumerate("ab")}
        lab = Lab(values, spec)
        lab.done = {"a": 20, "b": 20}
        wrong += follow(lab.table_at, LOOKS).claims["C1"].verdict == "upheld"
        ps = [
            stats.ttest_rel(values["b"][:n], values["a"][:n], alternative="greater").pvalue
            for n in LOOKS.seeds
        ]
        plain += min(ps) <= 0.05
    bound = 0.05 + 2 * math.sqrt(0.05 * 0.95 / repetitions)
    assert wrong / repetitions < bound
    assert plain / repetitions > bound


# Fixing them


def test_looks_are_fixed_once(tmp_path):
    file = tmp_path / "_looks" / "digits" / "made-paper.json"
    assert load(file) is None
    assert fix(file, None, "2026-01-01", started=False).seeds == [3, 5, 10, 20]
    assert fix(file, None, "2026-02-02", started=True) == Looks([3, 5, 10, 20], "2026-01-01")
    assert fix(file, 20, "2026-02-02", started=True).fixed == "2026-01-01"
    with pytest.raises(UserError, match="looks up to 20 seeds were fixed on 2026-01-01"):
        fix(file, 40, "2026-02-02", started=True)
    assert list(file.parent.iterdir()) == [file]


def test_looks_cannot_be_fixed_after_the_first_run(tmp_path):
    file = tmp_path / "_looks" / "digits" / "made-paper.json"
    with pytest.raises(UserError, match="before the first one"):
        fix(file, 10, "2026-01-01", started=True)
    assert not file.exists()
    with pytest.raises(UserError, match="two at least"):
        fix(file, 1, "2026-01-01", started=False)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"looks": [], "fixed": "x"}',
        '{"looks": [5, 3], "fixed": "x"}',
        '{"looks": [true], "fixed": "x"}',
        '{"looks": ["3"], "fixed": "x"}',
        "\xff",
    ],
)
def test_a_broken_file_of_looks_is_refused_by_name(tmp_path, content):
    file = tmp_path / "looks.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"looks\.json"):
        load(file)


def test_what_is_written_is_read(tmp_path):
    file = tmp_path / "looks.json"
    file.write_text(dump(LOOKS))
    assert load(file) == LOOKS


def test_seeds_go_on_counting_beyond_those_of_the_file():
    spec = spec_of(["a"], seeds=[4, 7])
    assert extended(spec, "paper", 4) == [4, 7, 8, 9]
    assert extended(spec, "paper", 1) == [4]
    tuned = spec_of(
        ["a"],
        seeds=2,
        select={"over": {"model.lr": [0.1, 0.2]}, "by": "val/error", "seeds": [3]},
    )
    with pytest.raises(UserError, match="3 would be a seed"):
        extended(tuned, "paper", 5)


def test_before_the_first_look_nothing_is_said():
    """Whoever prints a table that was interrupted has not looked."""
    spec = spec_of(
        ["a", "b"],
        reported={"a": {"x": reported("1.0", spread="0.05", spread_kind="std", n=5)}},
        metric={"margin": 0.01},
        claims=[{"id": "T", "kind": "threshold", "better": "a", "at_most": 1.35}, ORDERING],
    )
    lab = Lab({"a": [1.2, 1.3, 1.25], "b": [1.9, 1.91, 1.92]}, spec)
    lab.done = {"a": 3, "b": 1}
    course = follow(lab.table_at, LOOKS)
    assert course.taken == 0
    table = decided(lab.table_at(dict.fromkeys([("a", "x"), ("b", "x")], 3)), course)
    cell = table.cells["a", "x"].judged
    assert (cell.kind, cell.text, cell.difference) == ("partial", "before the first look", None)
    assert not any(c.judged.bold for c in table.cells.values())
    assert [c.verdict for c in table.claims] == ["partial", "partial"]
    assert all(c.p is None and c.effect is None and not c.comparisons for c in table.claims)
    assert (table.tally.judged, table.tally.claims_partial) == (0, 2)
    shown = markdown.render(table)
    assert shown.count("| before the first look |") == 2
    assert "**1." not in shown


@pytest.mark.parametrize(
    ("values", "bold"), [([1.3, 1.45, 1.33], False), ([1.3, 1.401, 1.35], True)]
)
def test_bold_is_at_the_level_of_the_look(values, bold):
    spec = spec_of(["a", "b"])
    lab = Lab({"a": [1.0, 1.1, 1.05], "b": values}, spec)
    course = lab.go()
    assert course.taken == 1
    p = stats.ttest_rel([1.0, 1.1, 1.05], values).pvalue
    assert p < 0.05, "bold in a table that is looked at once"
    assert (p < LOOKS.alphas[0]) == bold
    table = decided(lab.table_at(course.seeds), course)
    assert table.cells["a", "x"].judged.bold == bold
