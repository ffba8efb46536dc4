"""Every kind of claim, on cells small enough to reckon by hand."""

from __future__ import annotations

import pytest
from scipy import stats

from retable.tables.verdicts.claims import judge_claim
from retable.util.errors import UserError
from support.judge import reported, spec_of, table_of

LOW, HIGH = [1.0, 1.1, 0.9, 1.05], [2.0, 2.2, 2.1, 1.9]


def judged(claim, values, rows=None, **spec):
    made = spec_of(rows or list(values), claims=[{"id": "C1", **claim}], **spec)
    return judge_claim(table_of(made, values), made.claims[0])


def both(claim, low=LOW, high=HIGH, **spec):
    return judged(claim, {"low": {"x": low}, "high": {"x": high}}, **spec)


ORDERING = {"kind": "ordering", "better": "low", "than": "high"}


def test_an_ordering_follows_the_direction_of_the_metric():
    assert both(ORDERING).verdict == "upheld"
    assert both(ORDERING, metric={"direction": "max"}).verdict == "contradicted"
    turned = {**ORDERING, "better": "high", "than": "low"}
    assert both(turned).verdict == "contradicted"
    assert both(ORDERING, low=[1.0, 3.0, 0.5, 2.9]).verdict == "undecided"


def test_an_ordering_is_paired_where_the_seeds_are_the_same_and_says_how_many_it_wins():
    found = both(ORDERING)
    expected = stats.ttest_rel(HIGH, LOW, alternative="greater")
    assert found.effect.paired
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.wins.k, found.wins.n) == (4, 4)
    apart = judged(
        ORDERING, {"low": {"x": {10 + i: v for i, v in enumerate(LOW)}}, "high": {"x": HIGH}}
    )
    expected = stats.ttest_ind(HIGH, LOW, equal_var=False, alternative="greater")
    assert not apart.effect.paired
    assert apart.p == pytest.approx(expected.pvalue)
    assert apart.wins is None


def test_towards_an_ideal_nearer_is_better():
    near, far = [49.0, 51.0, 50.5], [40.0, 60.5, 39.0]
    found = both(ORDERING, near, far, metric={"direction": "none", "ideal": 50.0})
    assert found.verdict == "upheld"
    assert found.effect.theta == pytest.approx((10 + 10.5 + 11) / 3 - (1 + 1 + 0.5) / 3)


def test_over_several_columns_it_has_to_hold_in_each():
    values = {"low": {"x": LOW, "y": LOW}, "high": {"x": HIGH, "y": LOW[::-1]}}
    found = judged(ORDERING, values, columns=("x", "y"))
    assert found.verdict == "undecided"
    assert [one.verdict for one in found.comparisons] == ["upheld", "undecided"]
    assert found.effect == max((one.effect for one in found.comparisons), key=lambda e: e.p)
    averaged = judged({**ORDERING, "average": True}, values, columns=("x", "y"))
    assert averaged.verdict == "upheld"
    assert [one.place for one in averaged.comparisons] == ["average of 2 columns"]
    alone = judged({**ORDERING, "on": "x"}, values, columns=("x", "y"))
    assert alone.verdict == "upheld"


def test_all_of_needs_every_row_and_takes_the_largest_p():
    claim = {"kind": "all_of", "better": "low", "than": ["high", "higher"]}
    values = {"low": {"x": LOW}, "high": {"x": HIGH}, "higher": {"x": [3.0, 3.1, 3.2, 2.9]}}
    found = judged(claim, values)
    assert found.verdict == "upheld"
    assert found.p == max(one.effect.p for one in found.comparisons)
    values["higher"]["x"] = [0.1, 0.2, 0.15, 0.1]
    found = judged(claim, values)
    assert found.verdict == "contradicted"
    assert (found.wins.k, found.wins.n) == (0, 4), "no seed supports every part"


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [
        ({"at_least": 0.9}, "upheld"),
        ({"at_least": 1.2}, "contradicted"),
        ({"at_most": 1.2}, "upheld"),
        ({"at_most": 0.9}, "contradicted"),
        ({"at_least": 1.0}, "undecided"),
        ({"about": 1.0}, "upheld"),
        ({"about": 3.0}, "contradicted"),
    ],
)
def test_thresholds(bound, verdict):
    claim = {"kind": "threshold", "better": "low", **bound}
    assert judged(claim, {"low": {"x": LOW}}).verdict == verdict


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [
        ({"at_least": 1.5}, "upheld"),
        ({"at_least": 1.667}, "undecided"),
        ({"at_least": 2.0}, "contradicted"),
        ({"at_most": 2.0}, "upheld"),
        ({"about": 1.75}, "upheld"),
        ({"about": 3.0}, "contradicted"),
        ({"about": 1.75, "within": 1.01}, "undecided"),
    ],
)
def test_ratios_are_of_the_improvement(bound, verdict):
    # The specification's example, as errors (slow / fast) and as scores (fast / slow).
    a, b = [15.0, 16.0, 14.0, 17.0, 15.0], [9.0, 9.5, 8.0, 9.0, 8.5]
    claim = {"kind": "ratio", "better": "new", "than": "old", **bound}
    smaller = judged(claim, {"new": {"x": b}, "old": {"x": a}})
    larger = judged(claim, {"new": {"x": a}, "old": {"x": b}}, metric={"direction": "max"})
    for found in (smaller, larger):
        assert found.verdict == verdict
        assert found.ratio.value == pytest.approx(1.75)
        assert (found.ratio.low, found.ratio.high) == pytest.approx((1.639, 1.865), abs=5e-4)


def test_a_ratio_over_columns_is_one_of_averages():
    claim = {"kind": "ratio", "better": "new", "than": "old", "average": True, "at_least": 1.5}
    values = {
        "new": {"x": [1.0, 1.1, 0.9], "y": [3.0, 3.1, 2.9]},
        "old": {"x": [2.0, 2.1, 1.9], "y": [5.0, 5.1, 4.9]},
    }
    found = judged(claim, values, columns=("x", "y"))
    assert found.ratio.value == pytest.approx(7 / 4)
    assert found.effect.theta == pytest.approx(3.5 - 1.5 * 2)
    about = judged({**claim, "at_least": None, "about": 1.75}, values, columns=("x", "y"))
    assert [one.what for one in about.comparisons] == [
        "new at least 1.4 times as good as old",
        "new at most 2.188 times as good as old",
    ]
    assert {one.place for one in about.comparisons} == {"average of 2 columns"}
    formulas = ["old − 1.4 × new > 0", "2.188 × new − old > 0"]
    assert [one.tested for one in about.comparisons] == formulas


def test_not_worse_allows_its_margin():
    claim = {"kind": "not_worse", "better": "high", "than": "low"}
    a, b = [1.0, 1.1, 0.9, 1.05], [1.05, 1.13, 0.96, 1.09]
    assert both(claim, a, b, metric={"margin": 0.2}).verdict == "upheld"
    assert both(claim, a, b, metric={"margin": 0.02}).verdict == "contradicted"
    # The claim's own margin goes before the metric's.
    assert both({**claim, "margin": 0.2}, a, b, metric={"margin": 0.02}).verdict == "upheld"


def test_a_tie_is_not_worse_in_either_direction():
    differences = [0.1, -0.2, 0.05, 0.0, -0.1]
    a = [1.0] * 5
    b = [x - d for x, d in zip(a, differences, strict=True)]
    claim = {"kind": "tie", "better": "low", "than": "high"}
    assert both({**claim, "margin": 0.15}, a, b).verdict == "upheld"
    assert both({**claim, "margin": 0.14}, a, b).verdict == "undecided"
    assert both({**claim, "margin": 0.2}, LOW, HIGH).verdict == "contradicted"


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.0, 1.1, "upheld"), (1.0, 1.3, "contradicted")]
)
def test_a_tie_of_numbers_that_no_seed_changes_needs_one_run_of_each(low, high, verdict):
    claim = {"kind": "tie", "better": "low", "than": "high", "margin": 0.2}
    assert both(claim, [low], [high], metric={"deterministic": True}).verdict == verdict
    assert both(claim, [low], [high]).verdict == "undecided"


def test_a_trend_over_columns():
    values = [(1, 2, 2.5, 4), (1.2, 1.8, 3, 3.5), (0.8, 2.2, 2.6, 3.9)]
    columns = ("a", "b", "c", "d")
    cells = {"r": {c: [float(v[i]) for v in values] for i, c in enumerate(columns)}}
    found = judged({"kind": "trend", "better": "r"}, cells, columns=columns)
    assert found.verdict == "upheld"
    assert found.weighted
    assert found.p == pytest.approx(0.0015, abs=5e-5)
    assert found.effect.theta == pytest.approx((4.75 + 4.05 + 4.85) / 3)
    falls = judged({"kind": "trend", "better": "r", "trend": "falls"}, cells, columns=columns)
    assert falls.verdict == "contradicted"
    steps = judged({"kind": "trend", "better": "r", "each_step": True}, cells, columns=columns)
    assert len(steps.comparisons) == 3
    assert not steps.weighted
    nats = {"metric": {"unit": "nats"}, "columns": columns}
    assert judged({"kind": "trend", "better": "r"}, cells, **nats).unit == "", "positions are in it"
    assert judged({"kind": "trend", "better": "r", "each_step": True}, cells, **nats).unit == "nats"
    assert steps.verdict == "undecided"
    wide = {"kind": "trend", "better": "r", "positions": [0.0, 1.0, 2.0, 30.0]}
    assert judged(wide, cells, columns=columns).effect.theta != found.effect.theta


def test_a_trend_over_rows():
    claim = {"kind": "trend", "better": "a", "than": ["b", "c"], "on": "x"}
    values = {r: {"x": [i + 0.1, i - 0.1, i + 0.05]} for i, r in enumerate("abc")}
    assert judged(claim, values).verdict == "upheld"


def test_an_interaction_is_a_difference_of_gains():
    claim = {"kind": "interaction", "better": "new", "than": "old", "on": ["large", "small"]}
    values = {
        "new": {"large": [1.0, 1.1, 0.9], "small": [2.0, 2.1, 1.9]},
        "old": {"large": [3.0, 3.2, 2.9], "small": [2.5, 2.4, 2.6]},
    }
    columns = ("large", "small")
    assert judged(claim, values, columns=columns).verdict == "upheld"
    turned = {**claim, "on": ["small", "large"]}
    assert judged(turned, values, columns=columns).verdict == "contradicted"


def test_spreads_are_compared_from_ten_runs_on():
    claim = {"kind": "spread", "better": "calm", "than": "wild"}
    calm = [1 + 0.01 * (-1) ** i * (i % 5) for i in range(12)]
    wild = [1 + 0.5 * (-1) ** i * (1 + i % 5) for i in range(12)]
    found = judged(claim, {"calm": {"x": calm}, "wild": {"x": wild}})
    assert found.verdict == "upheld"
    few = judged(claim, {"calm": {"x": calm[:9]}, "wild": {"x": wild[:9]}})
    assert few.verdict == "undecided"


def test_a_function_of_the_papers_own_gives_a_number_per_seed():
    claim = {"kind": "function", "function": "sum_is_positive", "better": "low"}
    found = judged(claim, {"low": {"x": LOW}})
    assert found.verdict == "upheld"
    said = "a number per seed: the sum of all cells"  # its docstring
    assert found.rule == f"sum_is_positive ({said}): its mean over the seeds > 0"
    assert judged(claim, {"low": {"x": [-v for v in LOW]}}).verdict == "contradicted"
    with pytest.raises(UserError, match=r"claims\.C1\.function: no 'nothing'"):
        judged({**claim, "function": "nothing"}, {"low": {"x": LOW}})
    with pytest.raises(UserError, match="gave no number of any seed"):
        judged({**claim, "function": "nobody_knows"}, {"low": {"x": LOW}})


def test_a_claim_that_is_not_judged_says_why():
    found = both({"kind": "not_judged", "why_not_judged": "how near is near is not said"})
    assert (found.verdict, found.why) == ("not judged", "how near is near is not said")
    assert found.effect is None


def test_heavy_tails_take_the_reported_spread():
    light, heavy = [1.0, 1.2, 0.9, 1.1], [0.2, 0.3, 9.0, 0.1]
    many = {"spread": "8", "spread_kind": "std", "n": 600}
    numbers = {"low": {"x": reported("1", **many)}, "high": {"x": reported("5", **many)}}
    spec = {"reported": numbers, "metric": {"margin": 1.0}}
    found = both(ORDERING, light, heavy, **spec)
    assert "heavy tails" in found.marks
    assert not found.effect.paired
    assert found.effect.se == pytest.approx((8**2 / 4 + 8**2 / 4) ** 0.5)
    few = {name: {"x": {**c["x"], "n": 6}} for name, c in numbers.items()}
    assert both(ORDERING, light, heavy, reported=few, metric={"margin": 1.0}).effect.paired


def test_an_undecided_claim_says_how_many_seeds_would_decide():
    found = both(ORDERING, [1.0, 1.2, 0.8], [1.1, 1.15, 1.2])
    assert found.verdict == "undecided"
    assert found.needed.n > 3
    assert both(ORDERING).needed is None


def test_the_rule_is_said_in_words():
    claim = {"kind": "ratio", "better": "low", "than": "high", "at_least": 1.5}
    assert both(claim).rule == "high − 1.5 × low > 0 (x)"
    assert both(ORDERING).rule == "high − low > 0 (x)"
