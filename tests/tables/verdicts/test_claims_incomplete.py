"""Claims whose rows are quoted only, run elsewhere, or gave fewer numbers than was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats

from retable.report import counts
from retable.report.formatting import claims_tally
from retable.tables.verdicts.claims import judge_claim
from retable.tables.verdicts.judge import judge
from support.judge import cell_of, reported, spec_of, table_of

LOW, HIGH = [1.0, 1.1, 0.9, 1.05], [2.0, 2.2, 2.1, 1.9]


def judged(claim, values, rows=None, **spec):
    made = spec_of(rows or list(values), claims=[{"id": "C1", **claim}], **spec)
    return judge_claim(table_of(made, values), made.claims[0])


def both(claim, low=LOW, high=HIGH, **spec):
    return judged(claim, {"low": {"x": low}, "high": {"x": high}}, **spec)


ORDERING = {"kind": "ordering", "better": "low", "than": "high"}


def test_a_row_that_is_only_reported_enters_with_its_error():
    number = {"high": {"x": reported("2.0", spread="0.1", spread_kind="std", n=5)}}
    rows = {"low": {}, "high": {"run": False}}
    found = judged(ORDERING, {"low": {"x": LOW}, "high": {}}, reported=number, rows=rows)
    variances = (0.1**2 / 5, stats.tstd(LOW) ** 2 / 4)
    se = sum(variances) ** 0.5
    df = se**4 / (variances[0] ** 2 / 4 + variances[1] ** 2 / 3)  # Welch and Satterthwaite
    assert found.verdict == "upheld"
    assert found.effect.df == pytest.approx(df)
    # h = 0.05 of the printed digits moves both bounds outwards.
    assert found.effect.lower == pytest.approx(0.9875 - 0.05 - stats.t.ppf(0.95, df) * se)
    assert "quoted number (primary)" in found.marks
    assert found.wins is None
    # Seeds of ours would not shrink the quoted number's error.
    assert both(ORDERING, [1.0, 1.2, 0.8], [1.1, 1.15, 1.2]).needed is not None
    close = {"high": {"x": {**number["high"]["x"], "value": "1.05"}}}
    open_ = judged(ORDERING, {"low": {"x": LOW}, "high": {}}, reported=close, rows=rows)
    assert (open_.verdict, open_.needed) == ("undecided", None)


def test_what_a_statement_says_besides_has_to_hold_too():
    """Slower than the other at the second point, and not yet at the first."""
    values = {"low": {"x": LOW, "y": HIGH}, "high": {"x": HIGH, "y": LOW}}
    crossing = {**ORDERING, "on": "x", "also": [{"better": "high", "than": "low", "on": "y"}]}
    found = judged(crossing, values, columns=("x", "y"))
    assert found.verdict == "upheld"
    assert [(one.what, one.place) for one in found.comparisons] == [
        ("low better than high", "x"),
        ("high better than low", "y"),
    ]
    before = {**values, "high": {"x": HIGH, "y": [v + 3 for v in HIGH]}}
    assert judged(crossing, before, columns=("x", "y")).verdict == "contradicted"


def test_generated_data_decides_nothing():
    made = spec_of(["low", "high"], claims=[{"id": "C1", **ORDERING}])
    values = {"low": {"x": LOW}, "high": {"x": HIGH}}
    found = judge_claim(table_of(made, values, protocol="smoke"), made.claims[0])
    assert (found.verdict, found.p) == ("not judged", None)
    assert "generated data" in found.why


def test_a_row_that_another_protocol_runs_is_not_quoted():
    number = {"high": {"x": reported("2.0", n=5)}}
    reduced = {"columns": {"x": {"metric": "error", "experiment": {"paper": "digits/base"}}}}
    found = judged(ORDERING, {"low": {"x": LOW}, "high": {}}, reported=number, **reduced)
    assert (found.verdict, found.text, found.marks) == ("partial", "not run", [])
    made = spec_of(["low", "high"], claims=[{"id": "1", **ORDERING}], reported=number, **reduced)
    table = table_of(made, {"low": {"x": LOW}, "high": {}}, protocol="reduced")
    found = judge_claim(table, made.claims[0])
    assert (found.verdict, found.text, found.marks) == ("not judged", "not judged", [])
    assert found.why == "protocol reduced does not run x"
    both_run = {"x": {"metric": "error", "experiment": dict.fromkeys(("paper", "reduced"), "a/b")}}
    rows = {"low": {}, "high": {"protocols": ["paper"]}}
    tie, own = {**ORDERING, "kind": "tie", "margin": 1.0}, {"not_in": {"reduced": "too short"}}
    spread = {**ORDERING, "kind": "spread"}
    for claim, why in (
        (ORDERING, "protocol reduced does not run high"),
        (tie, "protocol reduced does not run high"),
        (spread, "protocol reduced does not run high"),
        ({**tie, **own}, "too short"),
    ):
        made = spec_of(rows, claims=[{"id": "1", "on": "x", **claim}], columns=both_run)
        table = table_of(made, {"low": {"x": LOW}, "high": {}}, protocol="reduced")
        assert ("high", "x") not in table.cells
        found = judge_claim(table, made.claims[0])
        assert (found.verdict, found.why) == ("not judged", why)


def test_one_run_decides_nothing_unless_all_are_the_same():
    assert both(ORDERING, [1.0], [2.0]).verdict == "undecided"
    exact = both(ORDERING, [1.0], [2.0], metric={"deterministic": True})
    assert exact.verdict == "upheld"
    assert exact.wins is None
    equal = both(ORDERING, [1.0], [1.0], metric={"deterministic": True})
    assert equal.verdict == "undecided"


def test_where_nothing_is_estimated_a_number_may_lie_on_its_bound():
    claim = {"kind": "threshold", "better": "low", "at_least": 16.0}
    exact = {"metric": {"deterministic": True}}
    assert judged(claim, {"low": {"x": [16.0]}}, **exact).verdict == "upheld"
    assert judged(claim, {"low": {"x": [15.9]}}, **exact).verdict == "contradicted"
    both_columns = {"low": {"x": [16.0], "y": [17.0]}}
    assert judged(claim, both_columns, columns=("x", "y"), **exact).verdict == "upheld"
    assert judged(claim, {"low": {"x": [16.0, 16.0]}}).verdict == "undecided"


def test_a_protocol_that_cannot_decide_shows_the_effect_and_says_why():
    claim = {**ORDERING, "not_in": {"reduced": "short training under-fits"}}
    experiments = {"paper": "digits/base", "reduced": "digits/base"}
    made = spec_of(
        ["low", "high"],
        claims=[{"id": "C1", **claim}],
        columns={"x": {"metric": "error", "experiment": experiments}},
    )
    values = {"low": {"x": LOW}, "high": {"x": HIGH}}
    found = judge_claim(table_of(made, values, protocol="reduced"), made.claims[0])
    assert (found.verdict, found.why) == ("not judged", "short training under-fits")
    assert found.effect.theta > 0
    assert found.p is None  # so that it is no test among the paper's claims
    assert judge_claim(table_of(made, values), made.claims[0]).verdict == "upheld"
    for low in (LOW[:2], []):  # nor does it wait for runs that would not decide it
        some = table_of(made, {"low": {"x": low}, "high": {"x": HIGH}}, protocol="reduced")
        found = judge_claim(some, made.claims[0])
        assert (found.verdict, found.why) == ("not judged", "short training under-fits")


@pytest.mark.parametrize(("protocol", "against"), [("reduced", 1), ("smoke", 0)])
def test_how_many_that_are_not_judged_have_an_effect_against_them_is_counted(protocol, against):
    claims = [
        {
            "id": name,
            "kind": "ordering",
            "better": better,
            "than": than,
            "not_in": {"reduced": "why"},
        }
        for name, better, than in (("C1", "low", "high"), ("C2", "high", "low"))
    ]
    both_ = {"metric": "error", "experiment": dict.fromkeys(("paper", "reduced", "smoke"), "d/b")}
    made = spec_of(["low", "high"], claims=claims, columns={"x": both_})
    values = {"low": {"x": LOW}, "high": {"x": HIGH}}
    found = counts.of(judge(table_of(made, values, protocol=protocol)))
    assert (found.not_judged, found.against) == (2, against)
    said = claims_tally(found)
    assert said.endswith(
        "2 not judged (the effect of 1 is against the claim)." if against else "judged."
    )
    assert judge(table_of(made, values)).tally.against == 0  # that one is contradicted


def test_what_is_missing_is_not_averaged_away():
    made = spec_of(["low", "high"], claims=[{"id": "C1", **ORDERING}])
    full = {"low": {"x": LOW}, "high": {"x": HIGH}}

    def with_low(**cell):
        more = {("low", "x"): cell_of(made, "low", "x", LOW, **cell)}
        return judge_claim(table_of(made, full, more=more), made.claims[0])

    assert with_low().verdict == "upheld"
    unfinished = with_low(planned=6)
    assert (unfinished.verdict, unfinished.text) == ("partial", "partial 4/6")
    assert unfinished.effect is not None
    diverged = with_low(planned=5, ended={"diverged": 1})
    assert (diverged.verdict, diverged.text) == ("partial", "diverged 1/5")
    none = judge_claim(table_of(made, {"high": {"x": HIGH}}), made.claims[0])
    assert (none.verdict, none.text, none.effect) == ("partial", "not run", None)
    unrecorded = replace(cell_of(made, "low", "x", [], planned=4), n_done=4)
    found = judge_claim(table_of(made, full, more={("low", "x"): unrecorded}), made.claims[0])
    assert (found.verdict, found.text, found.effect) == ("partial", "not recorded", None)


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        ({"diverged": 4}, "diverged 4/4"),
        ({"failed": 3, "diverged": 1}, "diverged 1/4"),
        ({"failed": 2}, "failed 2/4"),
        ({}, "not run"),
    ],
)
def test_a_row_all_runs_of_which_were_lost_is_not_one_that_was_not_run(ended, text):
    made = spec_of(["low", "high"], claims=[{"id": "C1", **ORDERING}])
    cell = cell_of(made, "low", "x", [], planned=4, ended=ended)
    more = {("low", "x"): cell}
    found = judge_claim(table_of(made, {"high": {"x": HIGH}}, more=more), made.claims[0])
    assert (found.verdict, found.text, found.effect) == ("partial", text, None)
    neither = judge_claim(table_of(made, {}, more=more), made.claims[0])
    assert (neither.verdict, neither.text) == ("partial", "not run")  # the other is still to run


def test_finished_runs_without_a_value_are_marked():
    made = spec_of(["low", "high"], claims=[{"id": "C1", **ORDERING}])
    cell = replace(cell_of(made, "low", "x", LOW[:3], planned=4), n_done=4)
    found = judge_claim(
        table_of(made, {"high": {"x": HIGH}}, more={("low", "x"): cell}), made.claims[0]
    )
    assert found.verdict == "upheld"
    assert "partial 3/4: no value from the others" in found.marks


def test_a_function_s_claim_waits_where_no_seed_has_all_numbers_yet():
    claim = {"kind": "function", "function": "sum_is_positive"}  # of all rows
    made = spec_of(["low", "high"], claims=[{"id": "C1", **claim}])
    cells = {
        ("low", "x"): cell_of(made, "low", "x", LOW, planned=8),
        ("high", "x"): replace(
            cell_of(made, "high", "x", HIGH, planned=8),
            values={seed + 4: value for seed, value in enumerate(HIGH)},
        ),
    }
    found = judge_claim(table_of(made, {}, more=cells), made.claims[0])
    assert (found.verdict, found.text, found.effect) == ("partial", "partial 4/8", None)
