"""What of a paper is not run, and which reason holds for it."""

from __future__ import annotations

from retable.report.not_run import idle, not_run, untested
from retable.tables import paper_info

PAPER = "signed_supermask"


def reasons(published=frozenset()):
    return {(t, one.protocol): one.why for one in not_run(PAPER, published) for t in one.tables}


def test_a_reason_that_names_the_table_goes_before_one_for_all():
    info = paper_info.load(PAPER)
    found = reasons()
    assert found["initialisation", "paper"] == info.not_run["*@paper"]
    assert found["peers", "paper"] == found["peers", "reduced"] == info.not_run["peers@*"]
    assert found["masks", "paper"] == info.not_run["masks@paper"]
    assert found["initialisation", "reduced"] == ""
    assert not any(protocol == "smoke" for _, protocol in found)


def test_what_is_published_is_not_missing_and_its_reason_is_idle():
    there = {(f"{PAPER}/masks", "paper")}
    assert ("masks", "paper") not in reasons(there)
    assert idle(PAPER, there) == ["masks@paper"]
    assert idle(PAPER, set()) == []


def test_claims_of_tables_of_which_nothing_is_published_are_named():
    whole = untested("weight_decay", set())
    assert whole["sphere"] == ["C8a", "C8b"]
    assert "curves" not in whole, "it has no claims"
    some = untested("weight_decay", {("weight_decay/sphere", "smoke"), ("weight_decay/norm", "x")})
    assert set(whole) - set(some) == {"sphere", "norm"}
