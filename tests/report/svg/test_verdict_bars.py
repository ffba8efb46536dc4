"""Bars of verdicts: their parts are the counts, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from retable.report.counts import Counts
from retable.report.svg import verdict_bars
from retable.report.svg.verdict_bars import Line

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*lines):
    text = verdict_bars.render("All", lines)
    root = ElementTree.fromstring(text)
    bars = [r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    return root, [(bar.find(f"{SVG}title").text, float(bar.get("width"))) for bar in bars]


def test_parts_are_as_wide_as_their_counts():
    tally = Counts(judged=10, reproduced=5, undecided=3, different=2, upheld=1, contradicted=3)
    root, bars = drawn(Line("A <paper>", "Somebody 2020", "paper", tally))
    assert bars == [
        ("5 reproduced", 165.0),
        ("3 undecided", 99.0),
        ("2 better or worse", 66.0),
        ("1 upheld", 82.5),
        ("3 contradicted", 247.5),
    ]
    said = [text.text for text in root.iter(f"{SVG}text")]
    assert "A <paper>" in said
    assert "5 reproduced, 3 undecided, 2 better or worse" in said
    assert "1 upheld, 3 contradicted" in said
    assert "5 reproduced, 3 undecided, 2 better or worse" in root.find(f"{SVG}desc").text


def test_many_kinds_are_in_lines_as_wide_as_the_bar_and_the_next_bar_is_below_them():
    many = Counts(upheld=15, claims_undecided=10, claims_partial=33, claims_not_run=20)
    root, _ = drawn(Line("A", "x", "paper", many), Line("A", "x", "reduced", many))
    texts = [(float(text.get("y")), text.text) for text in root.iter(f"{SVG}text")]
    below = [(y, text) for y, text in texts if re.match(r"\d+ ", text)]
    assert [text for _, text in below] == 2 * ["15 upheld, 10 undecided, 13 incomplete, 20 not run"]
    many = replace(many, not_judged=13, contradicted=12)
    root, _ = drawn(Line("A", "x", "paper", many), Line("A", "x", "reduced", many))
    texts = [(float(text.get("y")), text.text) for text in root.iter(f"{SVG}text")]
    below = [(y, text) for y, text in texts if re.match(r"\d+ ", text)]
    assert [text for _, text in below] == 2 * [
        "15 upheld, 10 undecided, 13 incomplete, 20 not run,",
        "13 not judged, 12 contradicted",
    ]
    assert below[1][0] < {text: y for y, text in texts}["reduced"] < below[2][0]


@pytest.mark.parametrize(
    ("protocol", "said"), [("paper", "no number is reported"), ("reduced", "not compared")]
)
def test_without_verdicts_it_says_so(protocol, said):
    root, bars = drawn(Line("A paper", "x", protocol, Counts()))
    assert bars == []
    assert said in [text.text for text in root.iter(f"{SVG}text")]


def test_each_colour_that_occurs_has_its_key_and_no_two_look_alike():
    tally = Counts(consistent=1, upheld=1, claims_partial=3, claims_not_run=2, not_judged=1)
    root, bars = drawn(Line("A paper", "x", "paper", tally))
    assert [name for name, _ in bars] == [
        "1 consistent", "1 upheld", "1 incomplete", "2 not run", "1 not judged",
    ]  # fmt: skip
    said = [text.text for text in root.iter(f"{SVG}text")]
    for word in ("consistent", "upheld", "incomplete", "not run", "not judged"):
        assert said.count(word) == 1
    looks = [look for _, _, look in verdict_bars.claims(tally)]
    assert len(set(looks)) == len(looks)


def test_a_paper_has_its_title_once():
    lines = [Line("A paper", "x", protocol, Counts(upheld=1)) for protocol in ("paper", "reduced")]
    root, _ = drawn(*lines)
    said = [text.text for text in root.iter(f"{SVG}text")]
    assert [said.count(text) for text in ("A paper", "paper", "reduced")] == [1, 1, 1]


def test_every_line_has_room_and_long_titles_end_in_dots():
    lines = [Line("word " * 40, f"number {n}", "middle", Counts(upheld=n)) for n in range(20)]
    root, _ = drawn(*lines)
    heights = [float(text.get("y")) for text in root.iter(f"{SVG}text")]
    assert max(heights) < float(root.get("height"))
    titles = [t.text for t in root.iter(f"{SVG}text") if t.text.startswith("word")]
    assert len(titles) == 20
    assert all(re.fullmatch(r"(word )+\w*…", title) for title in titles)
