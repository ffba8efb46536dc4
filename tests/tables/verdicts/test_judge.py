"""Verdicts of whole tables: which formula a cell gets, and what stands beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retable.tables.spec import TableSpec
from retable.tables.verdicts.judge import add, judge, judge_all
from retable.tables.verdicts.multiplicity import holm
from retable.util.errors import UserError
from support.judge import cell_of, reported, spec_of, table_of

FIVE = [1.25, 1.28, 1.31, 1.34, 1.37]  # mean 1.31, standard deviation .047


def one(values, number, metric=None, protocol="paper", **cell):
    """The judgement of a table's only cell."""
    spec = spec_of(
        ["ours"], reported={"ours": {"x": number}}, metric={"margin": 0.11} | (metric or {})
    )
    more = {("ours", "x"): cell_of(spec, "ours", "x", values, **cell)}
    return judge(table_of(spec, {}, protocol=protocol, more=more)).cells["ours", "x"].judged


PAPER = reported("1.29", spread="0.08", spread_kind="std", n=6)


def test_a_cell_near_its_number_is_consistent():
    found = one(FIVE, PAPER)
    assert found.kind == found.text == "consistent"
    assert found.difference.rule == "welch"
    assert (found.margin.value, found.margin.origin) == (0.11, "the metric")
    assert found.marks == []
    assert found.why is None
    assert any("d = m" in line for line in found.steps)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ({"direction": "min"}, "worse"),
        ({"direction": "max"}, "better"),
        ({"direction": "none"}, "higher"),
        ({"direction": "none", "ideal": 1.6}, "better"),
        ({"direction": "none", "ideal": 1.0}, "worse"),
    ],
)
def test_a_cell_that_differs_says_in_which_direction(metric, kind):
    found = one([v + 0.3 for v in FIVE], PAPER, metric)
    assert found.kind == kind
    assert found.why == "not known"


def test_a_reduced_run_gives_no_verdict_on_the_number():
    found = one([v + 0.3 for v in FIVE], PAPER, protocol="reduced")
    assert (found.kind, found.text) == ("protocol", "reduced")
    assert found.difference is None


def test_missing_runs_are_said_instead_of_a_verdict():
    found = one(FIVE, PAPER, planned=8)
    assert (found.kind, found.text) == ("partial", "partial 5/8")
    assert found.difference is not None
    found = one(FIVE, PAPER, planned=8, ended={"diverged": 1})
    assert (found.kind, found.text) == ("diverged", "diverged 1/8")
    found = one(FIVE, PAPER, planned=6, ended={"failed": 1})
    assert found.text == "failed 1/6"
    assert one([], PAPER, planned=6).text == "partial 0/6"
    assert one([], PAPER).kind == "not run"


def test_assumptions_are_marked():
    found = one(FIVE, reported("1.29"))
    assert {"n assumed", "equal spread assumed"} <= set(found.marks)
    assert {"n assumed"} <= set(one(FIVE, {**PAPER, "n": None}).marks)
    assert "equal spread assumed" in one([1.3], PAPER).marks
    assert "stale" in one(FIVE, PAPER, marks=["stale"]).marks


def test_one_run_is_never_reproduced():
    assert one([1.29], PAPER).kind == "consistent"
    assert one([1.29], reported("1.29")).kind == "undecided"
    assert one([1.29], reported("1.29")).difference.half is None


def test_a_deterministic_cell_is_judged_by_its_tolerance():
    fixed = {"deterministic": True}
    assert one([1.2954], reported("1.29"), fixed).kind == "reproduced"
    assert one([1.2970], reported("1.29"), fixed).kind == "worse"
    assert one([1.2970], reported("1.29"), {**fixed, "tolerance": 0.01}).kind == "reproduced"
    assert one([6.0], reported("6", exact=True), {**fixed, "tolerance": 0.0}).kind == "reproduced"
    assert one([7.0], reported("6", exact=True), {**fixed, "tolerance": 0.0}).kind == "worse"


def test_the_column_says_how_many_digits_are_printed():
    """YAML keeps 1.3 where the paper prints 1.30: the other cells of the column tell."""
    numbers = {"ours": {"x": reported("1.3")}, "other": {"x": reported("1.29")}}
    spec = spec_of(["ours", "other"], reported=numbers, metric={"margin": 0.11})
    table = judge(table_of(spec, {"ours": {"x": FIVE}, "other": {"x": FIVE}}))
    assert table.cells["ours", "x"].judged.reading.h == pytest.approx(0.005)


def test_margins_come_from_the_first_source_that_exists():
    def margin(number=PAPER, column=None, **metric):
        spec = spec_of(["ours"], reported={"ours": {"x": number}}, metric=metric)
        if column is not None:
            changed = spec.columns["x"].model_copy(update={"margin": column})
            spec = spec.model_copy(update={"columns": {"x": changed}})
        return judge(table_of(spec, {"ours": {"x": FIVE}})).cells["ours", "x"].judged.margin

    assert margin({**PAPER, "margin": 0.5}, column=0.4, margin=0.3).value == 0.5
    assert margin(column=0.4, margin=0.3).value == 0.4
    assert margin(margin=0.3).value == 0.3
    assert margin(margin=0.001).warning is not None
    proportion = margin(n_test=10_000, unit="%")
    assert proportion.value == pytest.approx(0.1128, abs=1e-4)
    assert margin().value == pytest.approx(0.08)
    assert margin(reported("1.29"), positive=True).value == pytest.approx(0.0645)
    with pytest.raises(UserError, match="row ours, column x"):
        margin(reported("1.29"))


def test_heavy_tails_show_the_median():
    found = one([0.1, 0.2, 0.1, 9.0], reported("1.29"))
    assert "heavy tails" in found.marks
    assert found.median == pytest.approx(0.15)
    assert one(FIVE, PAPER).median is None


def test_a_relative_cell_has_heavy_tails_by_what_was_recorded():
    """Its linearised values may be negative, which is no reason to call the metric so."""
    spec = spec_of(["base", "ours"], metric={"relative_to": "base", "positive": True})
    base = [1.0, 2.0, 3.0, 4.0]
    ours = [0.1, 0.2, 0.1, 9.6]
    enters = {0: -0.4, 1: 0.1, 2: 0.2, 3: 4.1}  # mean 1, the ratio of means
    cells = {
        ("base", "x"): replace(cell_of(spec, "base", "x", [1.0] * 4), raw=dict(enumerate(base))),
        ("ours", "x"): replace(cell_of(spec, "ours", "x", enters), raw=dict(enumerate(ours))),
    }
    found = judge(table_of(spec, {}, more=cells)).cells["ours", "x"].judged
    assert "heavy tails" in found.marks
    assert found.median == pytest.approx(0.15 / 2.5)
    plain = cells | {("ours", "x"): cell_of(spec, "ours", "x", enters)}
    assert (
        "heavy tails" not in judge(table_of(spec, {}, more=plain)).cells["ours", "x"].judged.marks
    )


def test_bold_is_significant_or_nothing():
    def bold(a, b, metric=None, **more):
        spec = spec_of(["a", "b"], metric=metric)
        table = table_of(spec, {"a": {"x": a}, "b": {"x": b}}, **more)
        return [row for (row, _), c in judge(table).cells.items() if c.judged.bold]

    low, high = [1.0, 1.1, 0.9], [2.0, 2.1, 2.2]
    assert bold(low, high) == ["a"]
    assert bold(low, high, {"direction": "max"}) == ["b"]
    assert bold(low, [1.05, 1.1, 0.95]) == []
    assert bold(low, high, {"ranked": False}) == []
    assert bold(low, high, {"direction": "none"}) == []
    unfinished = {("a", "x"): cell_of(spec_of(["a", "b"]), "a", "x", low, planned=5)}
    assert bold(low, high, more=unfinished) == []


def test_a_table_is_judged_by_its_share_of_differences():
    numbers = {r: {"x": {**PAPER, "grade": g}} for r, g in [("a", "primary"), ("b", "secondhand")]}
    claims = [
        {"id": "1", "kind": "ordering", "better": "a", "than": "b"},
        {"id": "2", "kind": "ordering", "better": "b", "than": "a"},
        {"id": "3", "kind": "not_judged", "why_not_judged": "no number"},
    ]
    spec = spec_of(["a", "b"], reported=numbers, claims=claims, metric={"margin": 0.11})
    table = judge(table_of(spec, {"a": {"x": FIVE}, "b": {"x": [v + 1 for v in FIVE]}}))
    tally = table.tally
    assert (tally.judged, tally.consistent, tally.different, tally.unverified) == (2, 1, 1, 1)
    assert (tally.upheld, tally.contradicted, tally.not_judged) == (1, 1, 1)
    assert tally.by_chance == pytest.approx(0.1)
    fixed = spec.metrics["error"].model_copy(update={"deterministic": True})
    exact = spec.model_copy(update={"metrics": {"error": fixed}})
    assert judge(table_of(exact, {"a": {"x": [1.29]}})).tally.by_chance == 0
    assert add([tally, tally]).judged == 4


def test_only_what_the_paper_prints_counts_as_verified():
    for grade in ("secondhand", "recalled", "derived"):
        numbers = {"a": {"x": {**PAPER, "grade": grade}}}
        spec = spec_of(["a"], reported=numbers, metric={"margin": 0.11})
        assert judge(table_of(spec, {"a": {"x": FIVE}})).tally.unverified == 1
    spec = spec_of(["a"], reported={"a": {"x": PAPER}}, metric={"margin": 0.11})
    assert judge(table_of(spec, {"a": {"x": FIVE}})).tally.unverified == 0


def test_claims_are_adjusted_over_a_paper_and_not_beyond():
    claims = [{"id": "1", "kind": "ordering", "better": "a", "than": "b"}]
    both = {"paper": "digits/base", "reduced": "digits/base"}
    columns = {"x": {"metric": "error", "experiment": both}}
    spec = spec_of(["a", "b"], claims=claims, columns=columns)
    a, b = [1.0, 1.1, 0.9], [1.2, 1.25, 1.4]
    first = table_of(spec, {"a": {"x": a}, "b": {"x": b}})
    second = replace(table_of(spec, {"a": {"x": a}, "b": {"x": [2.0, 2.2, 2.1]}}), name="digits/b")
    other = replace(second, protocol="reduced")
    ps = [t.claims[0].p for t in judge_all([first, second])]
    adjusted = [t.claims[0].p_holm for t in judge_all([first, second, other])]
    assert adjusted[:2] == holm(ps)
    assert adjusted[2] == pytest.approx(ps[1])
    assert judge(first).claims[0].p_holm is None
    # The headline is the plain verdict.
    assert judge_all([first, second])[0].claims[0].verdict == judge(first).claims[0].verdict


KEY = "0123456789abcdef"


def test_a_cause_names_the_run_that_tests_it():
    why = [
        {"row": "a", "column": "x", "because": "another library", "runs": [KEY]},
        {"claim": "1", "because": "too few epochs", "runs": [KEY]},
    ]
    claims = [{"id": "1", "kind": "ordering", "better": "a", "than": "b"}]
    numbers = {r: {"x": PAPER} for r in "ab"}
    spec = spec_of(["a", "b"], reported=numbers, claims=claims, why=why, metric={"margin": 0.11})
    far = [v + 1 for v in FIVE]
    table = judge(table_of(spec, {"a": {"x": far}, "b": {"x": [v - 0.7 for v in far]}}))
    assert table.cells["a", "x"].judged.why == "another library (tested by run 0123456789ab)"
    assert table.cells["b", "x"].judged.why == "not known"
    assert table.claims[0].why == "too few epochs (tested by run 0123456789ab)"
    with pytest.raises(ValueError, match="runs, measured: give what tests it"):
        spec_of(["a"], why=[{"row": "a", "because": "a guess", "runs": []}])


def test_a_cause_names_the_script_that_has_measured_it():
    output = {"script": "scripts/count.py", "file": "counts.json", "sha256": "ab" * 32}
    why = {"row": "a", "because": "another library", "runs": [KEY], "measured": output}
    spec = spec_of(["a"], reported={"a": {"x": PAPER}}, why=[why], metric={"margin": 0.11})
    table = judge(table_of(spec, {"a": {"x": [v + 1 for v in FIVE]}}))
    by = "measured by scripts/count.py: measured/counts.json"
    said = f"another library (tested by run 0123456789ab; {by})"
    assert table.cells["a", "x"].judged.why == said
    for name, wrong in (("file", "../counts.json"), ("sha256", "ab"), ("script", "")):
        with pytest.raises(ValueError, match=name):
            spec_of(["a"], why=[{**why, "measured": {**output, name: wrong}}])


def test_every_shipped_table_can_be_judged():
    from retable.tables import spec as specs
    from retable.util import paths

    for name in paths.config_names("table"):
        spec = specs.load(name)
        assert isinstance(spec, TableSpec)
        table = table_of(spec.model_copy(update={"claims": []}), {})
        filled = [
            (row, column)
            for row, cells in spec.reported.items()
            for column in cells
            if spec.rows[row].runs_in(column) and spec.experiment(column, "paper")
        ]
        for row, column in filled:
            values = [float(spec.reported[row][column].value)] * 3
            table.cells[row, column] = cell_of(spec, row, column, values)
        cells = judge(table).cells
        for place in filled:
            assert cells[place].judged.kind in {"reproduced", "consistent"}, (name, place)
