"""Claims as printed: statements as they stand, numbers as judged, p over the whole paper."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from retable.cli.main import app
from retable.report import claims_text
from retable.tables.aggregate import build
from retable.tables.verdicts.judge import judge, judge_all
from retable.util.errors import UserError
from support.mini import extra_root, planned


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    return build(*planned())


def test_statements_stand_as_they_are_in_the_table_file(table):
    judged = judge(table)
    text = claims_text.listing([judged])
    for claim in table.spec.claims:
        assert claim.statement in text
        assert f"  {claim.id}: " in text
    assert claims_text.cells(judged.claims[1])[1].endswith("‡")


def test_marks_and_columns_are_explained_where_they_occur_and_not_elsewhere(table):
    claims = judge(table).claims
    legend, marks = claims_text.legend(claims), claims_text.grades(claims)
    assert "‡ claim from memory" in marks
    assert "p: one-sided" in legend
    assert "Wins: " in legend
    plain = [replace(c, grade="primary", p=None, wins=None) for c in claims]
    assert claims_text.grades(plain) == ""
    assert "p: " not in claims_text.legend(plain)
    assert "Wins" not in claims_text.legend(plain)
    assert "Of a trend" not in legend
    assert "Of a trend" in claims_text.legend([replace(claims[0], weighted=True)])
    incomplete = replace(next(c for c in claims if c.wins is not None), verdict="partial")
    missing = "Where runs are missing the effect is of all there are"
    assert missing in claims_text.legend([incomplete])
    assert missing not in claims_text.legend([replace(incomplete, wins=None)])


def test_what_came_out_is_one_sentence_and_the_comparisons_are_below(table):
    by_id = {c.id: claims_text.details(c) for c in judge(table).claims}
    (said, *_) = by_id["C5"]
    assert said.startswith("the claim holds in 1 of 2 comparisons; undecided whether *Better*")
    assert said.count("; ") == 1
    assert "is better than Unsure (4.7 [" in said
    assert by_id["C1"][0].startswith("*Better* [1](x) is better than Worse at Accuracy: ")
    assert any(d.startswith("Cause: the rate is another (tested by runs") for d in by_id["C2"])
    assert by_id["C6"] == ["not judged: nothing is measured"]
    assert any("ratio of the means 1.10" in d for d in by_id["C7"])
    text = claims_text.listing([judge(table)])
    assert (
        "*Better* [1](x) better than Same | Accuracy | *Better* [1](x) − Same > 0 | 6.00 [" in text
    )


def test_holm_stands_only_where_all_claims_of_the_paper_were_looked_at(table):
    alone, together = judge(table), judge_all([table])[0]
    holm = claims_text.HEADINGS.index("p (Holm)")
    assert holm not in claims_text.columns(alone.claims)
    assert holm in claims_text.columns(together.claims)
    assert "Holm" not in claims_text.legend(alone.claims)
    assert "Holm" in claims_text.legend(together.claims)
    twice = judge_all([table, table])[0]
    p = {c.id: (c.p, c.p_holm) for c in twice.claims}
    q = {c.id: c.p_holm for c in together.claims}
    plain, adjusted = p["C3"]
    assert adjusted >= q["C3"] >= plain


def test_nothing_to_say():
    assert claims_text.listing([]) == "no claims"
    assert claims_text.legend([]) == ""


def called(*args: str):
    """A command in this process; what a user would be told is raised."""
    result = CliRunner().invoke(app, ["claims", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_on_the_command_line():
    (claim,) = json.loads(called("digits/accuracy", "--json"))
    assert (claim["table"], claim["paper"], claim["protocol"]) == (
        "digits/accuracy",
        "digits",
        "paper",
    )
    assert (claim["id"], claim["verdict"], claim["text"]) == ("C1", "partial", "not run")
    assert {"effect", "p", "p_holm", "wins", "needed", "statement"} <= claim.keys()
    assert "C1: not run" in called("digits")
    smoke = called("digits", "--protocol", "smoke")
    assert "C1: not judged" in smoke
    assert "not judged: protocol smoke runs on generated data" in smoke
    with pytest.raises(UserError, match="nothing is published under protocol smoke"):
        called("digits", "--from", "results", "--protocol", "smoke")
    with pytest.raises(UserError, match="did you mean 'paper'"):
        called("digits", "--protocol", "papr")
    with pytest.raises(UserError, match="no table or paper 'digitss'"):
        called("digitss")
    with pytest.raises(UserError, match="did you mean 'results'"):
        called("digits", "--from", "result")
