"""Claims in a sentence: who is better than whom, where, and how surely."""

from __future__ import annotations

import pytest

from retable.report import claim_sentences
from retable.tables.results import Comparison, Effect, JudgedClaim


def effect(theta: float, p: float) -> Effect:
    return Effect(theta, 1.0, 4.0, theta - 1, theta + 1, p, 1 - p, 5, False, 0.05, 1.0, 0.0)


def one(verdict="upheld", place="x", relation="better than B", theta=2.0, p=0.01, subject="A"):
    return Comparison(subject, relation, place, "A − B > 0", effect(theta, p), verdict)


def said(*comparisons, verdict="upheld", unit=""):
    claim = JudgedClaim(
        "C", "A wins", "", "primary", "ordering", verdict, verdict, unit=unit,
        comparisons=list(comparisons),
    )  # fmt: skip
    return claim_sentences.outcome(claim)


@pytest.mark.parametrize(
    ("verdict", "how"),
    [("upheld", "is"), ("contradicted", "is not"), ("undecided", "is not shown to be")],
)
def test_one_comparison(verdict, how):
    found = said(one(verdict), verdict=verdict, unit="%")
    assert found == [f"A {how} better than B at x: 2.0 [1.0, 3.0] points"]


def test_an_average_is_no_place():
    found = said(one(place="average of 3 columns"))
    assert found == ["A is better than B in the average of 3 columns: 2.0 [1.0, 3.0]"]


def test_where_all_hold_the_least_certain_is_named():
    found = said(one(place="x"), one(place="y", theta=4.0, p=0.04), one(place="z"))
    assert found == ["A is better than B in all 3 cases, least clearly at y: 4.0 [3.0, 5.0]"]
    both = said(one(place="x"), one(place="x", relation="better than C", p=0.02))
    assert both == [
        "A is better than B and C, least clearly that A is better than C: 2.0 [1.0, 3.0]",
    ]
    others = said(one(), one(subject="D", place="y", p=0.03))
    assert others == [
        "both comparisons hold, least clearly that D is better than B at y: 2.0 [1.0, 3.0]",
    ]


def test_where_some_do_not_hold_they_are_named_and_the_rest_is_counted():
    against = [
        one("contradicted", place, theta=-2.0, p=p)
        for place, p in zip("abc", (0.97, 0.99, 0.98), strict=True)
    ]
    found = said(one(place="x"), one("undecided", "y", p=0.2), *against, verdict="contradicted")
    assert found == [
        "A is better than B in 1 of 5 cases; the opposite at b (−2.0 [−3.0, −1.0]), at c"
        " (−2.0 [−3.0, −1.0]) and 1 more; undecided at y (2.0 [1.0, 3.0])",
    ]
    other = said(one(), one("contradicted", relation="at most 3", p=0.9), verdict="contradicted")
    assert other == [
        "the claim holds in 1 of 2 comparisons; it does not hold that A is at most 3"
        " (2.0 [1.0, 3.0])",
    ]


def test_what_is_not_judged_gets_no_verdict_in_words_and_what_is_not_complete_says_so():
    assert said(one(), verdict="not judged") == []
    assert said(Comparison("A", "better than B", "x", "A − B > 0"), verdict="partial") == []
    assert said(one(), verdict="partial")[0].startswith("so far A is better")
