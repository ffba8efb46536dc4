"""Claims where a plain reading would be wrong: ideals, signs, averages, seeds without a number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from retable.report import claims_text
from retable.tables.aggregate import relative
from retable.tables.spec import TableSpec
from retable.tables.validate import problems
from retable.tables.verdicts.claims import judge_claim
from retable.tables.verdicts.judge import judge, judge_plainly
from support.judge import cell_of, reported, spec_of, table_of

FIVE = [1.0, 1.02, 0.98, 1.01, 0.99]


def judged(values, claim, *, metric=None, columns=("x",), **rest):
    """The one claim on cells with these values, and the spec."""
    spec = spec_of([*values], columns, claims=[{"id": "C", **claim}], metric=metric, **rest)
    return judge_claim(table_of(spec, values), spec.claims[0]), spec


def of(row, values=FIVE, column="x"):
    return {row: {column: [row_value * 1.0 for row_value in values]}}


AB = {"better": "a", "than": "b"}
IDEAL = {"ideal": 50.0, "direction": "none", "margin": 3.0}


def test_a_ratio_is_not_of_distances_from_an_ideal():
    spec = spec_of(
        ["a", "b"], metric=IDEAL, claims=[{"id": "C", "kind": "ratio", **AB, "about": 2}]
    )
    assert any("ratio is not of distances" in text for *_, text in problems(spec))


def test_what_is_compared_with_an_ideal_is_said_to_be_distances():
    values = {"a": {"x": [45.0, 45.2, 44.9]}, "b": {"x": [55.0, 55.1, 54.9]}}
    tie, _ = judged(values, {"kind": "tie", **AB}, metric=IDEAL)
    assert tie.verdict == "upheld"
    assert [one.tested for one in tie.comparisons] == ["||a − 50| − |b − 50|| < 3"]
    values = {"a": {"x": [48.5, 48.6, 48.4]}, "b": {"x": [30.0, 30.1, 29.9]}}
    better, _ = judged(values, {"kind": "ordering", **AB}, metric=IDEAL)
    assert better.verdict == "upheld"
    assert better.effect.theta == pytest.approx(18.5)
    assert [one.tested for one in better.comparisons] == ["|b − 50| − |a − 50| > 0"]


def test_about_a_negative_number():
    values = {"a": {"x": [-86.0, -86.5, -85.5]}}
    claim = {"kind": "threshold", "better": "a", "about": -86}
    found, _ = judged(values, claim, metric={"direction": "max"})
    assert found.verdict == "upheld"
    assert [one.relation for one in found.comparisons] == ["at least -107.5", "at most -68.8"]
    found, _ = judged({"a": {"x": [-60.0, -60.5, -59.5]}}, claim, metric={"direction": "max"})
    assert found.verdict == "contradicted"


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_ratio_of_numbers_below_0_says_nothing(direction):
    values = {"a": {"x": [-86.0, -86.5, -85.5]}, "b": {"x": [-92.0, -92.4, -91.6]}}
    claim = {"kind": "ratio", **AB, "at_least": 1.1}
    found, _ = judged(values, claim, metric={"direction": direction})
    assert (found.verdict, found.effect) == ("not judged", None)
    assert found.why.startswith("a ratio compares numbers above 0, and ")


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"kind": "tie", **AB, "average": True}, "average: a claim of kind tie has none"),
        ({"kind": "spread", **AB, "average": True}, "average: a claim of kind spread"),
        (
            {"kind": "tie", **AB, "also": [{"better": "b", "than": "a"}]},
            "also: a claim of kind tie",
        ),
        ({"kind": "ordering", **AB, "at_least": 2}, "at_least: a claim of kind ordering"),
        ({"kind": "ordering", **AB, "margin": 5}, "margin: .* only not_worse, tie"),
        ({"kind": "ordering", **AB, "trend": "falls"}, "trend: .* only trend"),
        ({"kind": "ordering", **AB, "why_not_judged": "so"}, "why_not_judged: .* not_judged"),
        ({"kind": "threshold", "better": "a", "at_least": 2, "within": 2}, "within: is the factor"),
        ({"kind": "threshold", "better": "a", "about": 2, "within": 0.5}, "within: is the factor"),
        ({"kind": "threshold", "better": "a", "about": 0}, "no factor is 0"),
        ({"kind": "ratio", **AB, "at_least": -2}, "a ratio is positive"),
        ({"kind": "threshold", **AB, "at_least": 2}, "than: a claim of kind threshold has none"),
        (
            {"kind": "threshold", "better": "a", "at_least": 2, "also": [{"than": "b"}]},
            "also: a claim of kind threshold compares with no row",
        ),
    ],
)
def test_what_a_kind_does_not_read_is_refused(claim, said):
    with pytest.raises(ValidationError, match=said):
        spec_of(["a", "b"], claims=[{"id": "C", **claim}])


def test_a_key_at_its_default_may_stand_there():
    spec = spec_of(["a", "b"], claims=[{"id": "C", "kind": "ordering", **AB, "average": False}])
    again = TableSpec.model_validate(spec.model_dump(exclude_none=True))
    assert again.claims == spec.claims


COLUMNS = {
    "x": {"metric": "error", "experiment": "digits/base", "margin": 1.0},
    "y": {"metric": "error", "experiment": "digits/base", "margin": 0.1},
}


@pytest.mark.parametrize("on", [["x", "y"], ["y", "x"]])
def test_the_margin_of_an_average_is_that_of_its_columns(on):
    values = {
        "a": {"x": [1.3, 1.31, 1.29], "y": [1.3, 1.31, 1.29]},
        "b": {"x": [1.0, 1.02, 1.0], "y": [1.0, 1.01, 0.99]},
    }
    claim = {"kind": "not_worse", **AB, "on": on, "average": True}
    found, _ = judged(values, claim, columns=COLUMNS)
    assert found.verdict == "upheld"  # 0.3 worse, of a margin of 0.55
    assert found.rule.startswith("b − a > −0.55 ")


def test_of_several_ratios_none_is_printed_as_if_it_were_the_only_one():
    values = of("a", [2.0, 2.01]) | of("b", [1.0, 1.01]) | of("c", [0.5, 0.51])
    claim = {"kind": "ratio", "better": "c", "than": "b", "at_least": 1.5}
    alone, _ = judged(values, claim)
    assert alone.ratio.value == pytest.approx(2.01 / 1.01, abs=0.02)
    both, _ = judged(values, claim | {"also": [{"better": "b", "than": "a"}]})
    assert both.ratio is None
    assert both.verdict == "upheld"


def test_a_sure_number_on_its_bound_beside_an_estimated_one():
    metrics = {
        "error": {"key": "test/error", "direction": "max"},
        "count": {"key": "test/count", "direction": "max", "deterministic": True},
    }
    columns = {name: {"metric": name, "experiment": "digits/base"} for name in metrics}
    claim = {"kind": "threshold", "better": "a", "at_least": 16.0, "on": ["error", "count"]}
    values = {"a": {"error": [17.0, 17.1, 16.9], "count": [16.0]}}
    found, _ = judged(values, claim, columns=columns, metrics=metrics)
    assert [one.verdict for one in found.comparisons] == ["upheld", "upheld"]
    assert (found.verdict, found.needed) == ("upheld", None)
    assert (found.wins.k, found.wins.n) == (3, 3)


def test_a_tie_that_is_not_judged_is_against_its_claim_outside_the_margin():
    claim = {"id": "C", "kind": "tie", **AB, "margin": 0.5, "not_in": {"reduced": "too small"}}
    runs = {"paper": "digits/base", "reduced": "digits/base"}
    columns = {"x": {"metric": "error", "experiment": runs}}
    spec = spec_of(["a", "b"], columns, claims=[claim], seeds={"paper": 5, "reduced": 5})
    for shift, against in ((-0.2, 0), (0.2, 0), (2.2, 1), (-2.2, 1)):
        values = of("a", [x + shift for x in FIVE]) | of("b")
        table = judge_plainly(table_of(spec, values, protocol="reduced"))
        assert table.claims[0].verdict == "not judged"
        assert table.tally.against == against, shift


def test_the_legend_says_when_a_tie_is_upheld():
    both = spec_of(
        ["a", "b"],
        claims=[
            {"id": "T", "kind": "tie", **AB, "margin": 1},
            {"id": "O", "kind": "ordering", **AB},
        ],
    )
    claims = judge_plainly(table_of(both, of("a") | of("b"))).claims
    of_ties = (
        "upheld where the interval lies within the margin, contradicted where it lies outside."
    )
    assert of_ties in claims_text.legend(claims)
    assert "the lower is above 0" in claims_text.legend(claims)
    assert "the lower is above 0" not in claims_text.legend(claims[:1])
    assert "margin" not in claims_text.legend(claims[1:])


def test_seeds_without_a_number_are_said_at_the_claim():
    metric = {"absent": "no collapse"}
    claim = {"id": "C", "kind": "threshold", "better": "a", "at_most": 2}
    spec = spec_of({"a": {"title": "Row A"}}, claims=[claim], metric=metric)
    cell = cell_of(spec, "a", "x", [1.0, 1.1], marks=["3 of 5 finished runs: no collapse"])
    table = table_of(spec, {}, more={("a", "x"): replace(cell, n_absent=3)})
    found = judge_claim(table, spec.claims[0])
    assert found.verdict == "upheld"
    assert found.marks == ["Row A, x: 3 of 5 finished runs: no collapse"]


def test_the_median_of_a_relative_cell_in_percent():
    metric = {"relative_to": "ref", "unit": "%", "margin": 1.0}
    spec = spec_of(["ref", "a"], metric=metric, reported={"a": {"x": reported("60")}})
    ref, raw = dict(enumerate([1.0, 1.01, 0.99])), dict(enumerate([0.5, 0.6, 6.0]))
    in_percent = {seed: 100 * value for seed, value in relative(raw, ref).items()}
    cells = {
        ("ref", "x"): replace(cell_of(spec, "ref", "x", dict.fromkeys(ref, 100.0)), raw=ref),
        ("a", "x"): replace(cell_of(spec, "a", "x", in_percent), raw=raw),
    }
    cell = judge(table_of(spec, {}, more=cells)).cells["a", "x"]
    assert "heavy tails" in cell.judged.marks
    assert cell.judged.median == pytest.approx(60.0)


def test_cells_without_an_interval_cannot_differ_by_chance():
    rows = [f"r{number}" for number in range(20)]
    spec = spec_of(
        rows, reported={row: {"x": reported("1.0")} for row in rows}, metric={"margin": 0.1}
    )
    table = judge(table_of(spec, {row: {"x": [1.5]} for row in rows}))
    assert (table.tally.judged, table.tally.estimated) == (20, 0)
