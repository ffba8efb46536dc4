"""Claims of a paper: each once, however many protocols it was tested under."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retable.report import counts, formatting, paper_page
from retable.report.claim_grid import grid
from support.mini import extra_root, tables


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("mini"))))
        return tables()


def test_a_claim_has_a_line_and_a_verdict_for_each_protocol(judged):
    found = grid(judged)
    own, smoke = judged
    assert found.protocols == ["paper", "smoke"]
    assert [line.id for line in found.lines] == [claim.id for claim in own.claims]
    for line, claim, other in zip(found.lines, own.claims, smoke.claims, strict=True):
        assert line.found == {"paper": (0, claim), "smoke": (1, other)}
    page = paper_page.render("verdicts", judged, ["a.md", "a-smoke.md"])
    claims = page.partition("## Claims")[2]
    for claim in own.claims:
        assert claims.count(f"| {claim.id} |") == 1
    assert claims.count("](a.md)") == claims.count("](a-smoke.md)") == len(own.claims)
    assert "‡ claim from memory of the literature; not verified" in claims


def test_under_one_protocol_there_is_one_column(judged):
    assert grid(judged[:1]).protocols == ["paper"]
    assert grid([replace(judged[0], claims=[])]).lines == []


def test_what_was_tested_twice_counts_once_and_as_under_the_first(judged):
    own = counts.together(judged[:1])
    once = counts.once(judged)
    assert formatting.claims_tally(once) == formatting.claims_tally(own)
    other = counts.once([judged[0], replace(judged[1], name="verdicts/other")])
    assert other.not_judged == own.not_judged + len(judged[1].claims)


def test_nothing_run_and_runs_missing_have_words_of_their_own(judged):
    claims = [
        replace(judged[0].claims[0], id=text, verdict="partial", text=text)
        for text in ("not run", "partial 1/3", "failed 1/3")
    ]
    table = replace(judged[0], claims=claims, tally=replace(judged[0].tally, claims_partial=3))
    found = counts.of(table)
    assert (found.claims_incomplete, found.claims_not_run) == (2, 1)
    assert "2 incomplete, 1 not run" in formatting.claims_tally(found)
    assert formatting.worded("partial 1/3") == "incomplete 1/3"
    assert formatting.worded("not run") == "not run"
