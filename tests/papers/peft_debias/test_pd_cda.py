"""Exchanged words: ambiguous ones, marks, texts without any, and what the authors' code leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.data.base import DataPaths
from retable.papers.peft_debias import cda
from retable.papers.peft_debias.cda import FEW_PAIRS, MARKS, Swaps, listed_words, swaps
from retable.util.errors import UserError

MIRROR = os.environ.get("RETABLE_MIRROR")
GENDER = Swaps(FEW_PAIRS, two_sided=True)
COLOURS = [("red", "green", "blue"), ("round", "square"), ("red", "amber")]


def test_words_change_both_ways_and_the_text_follows():
    assert GENDER("He lost his hat.") == ["she lost her hat.", "he lost his hat."]
    assert GENDER("her book") == ["his book", "her book"]


def test_the_later_pair_decides_on_a_word_in_two():
    assert [GENDER(word)[0] for word in ("him", "his", "her")] == ["her", "her", "his"]
    assert GENDER(GENDER("we saw him")[0])[0] == "we saw his", "no involution"


def test_parts_of_words_and_other_marks_are_left():
    for text in ("the theatre is a shed", "he's here", "(he) sat", "his-and-mine", ""):
        assert GENDER(text) == []
    assert GENDER.all(["he sat", "the shed", "she sat"]) == [
        *("she sat", "he sat", "he sat", "she sat")
    ]


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_at_the_end_stays(mark):
    assert GENDER(f"was it him{mark} yes")[0] == f"was it her{mark} yes"
    assert GENDER(f"him{mark}{mark}") == []


def test_a_text_without_listed_words_gives_itself_on_other_axes():
    assert Swaps(COLOURS, two_sided=False)("A  Large\tbox") == ["a large box"]


def test_only_the_first_listed_word_varies_wherever_it_is():
    first = Swaps(COLOURS, two_sided=False)
    text = "a green, round box is green, and green"
    assert first(text) == [
        text,
        "a red, round box is red, and green",
        "a blue, round box is blue, and green",
    ], "green without a comma is another word"
    both = Swaps(COLOURS, two_sided=False, first_only=False)
    assert both(text) == [
        *first(text),
        "a green, square box is green, and green",
        "a green, round box is green, and red",
        "a green, round box is green, and blue",
    ]


def test_the_last_tuple_of_a_word_counts_on_other_axes():
    assert Swaps(COLOURS, two_sided=False)("red")[1:] == ["amber"]
    assert Swaps(COLOURS, two_sided=False)("green")[1:] == ["red", "blue"]


@given(st.lists(st.sampled_from(["he", "she", "his.", "her", "hat", "x"]), max_size=8))
def test_the_two_sided_text_is_half_original(words):
    made = GENDER(" ".join(words))
    assert len(made) in (0, 2)
    assert bool(made) == any(word in GENDER.others for word in words)
    if made:
        assert made[1].split() == words
        changed = [a != b for a, b in zip(made[0].split(), words, strict=True)]
        assert changed == [word in GENDER.others for word in words]


@pytest.mark.parametrize(("words", "two_sided"), [(("a", "b", "c"), True), (("a",), False)])
def test_tuples_of_another_size_are_refused(words, two_sided):
    with pytest.raises(UserError, match="give a pair"):
        Swaps([words], two_sided=two_sided)


def test_words_are_read_from_the_mirror(tmp_path, monkeypatch):
    file = tmp_path / cda.WORDS
    file.parent.mkdir()
    file.write_text(json.dumps({"gender": FEW_PAIRS, "group": COLOURS}))
    paths = DataPaths(tmp_path / "cache", tmp_path)
    with pytest.raises(UserError, match="truncated or altered"):
        swaps("gender", paths)
    monkeypatch.setattr(cda, "WORDS_SHA256", cda_sha(file))
    assert swaps("gender", paths)("he sat") == ["she sat", "he sat"]
    assert swaps("group", paths)("a red one") == ["a red one", "a amber one"]
    with pytest.raises(UserError, match="no axis 'grup'; did you mean 'group'"):
        listed_words("grup", paths)


def cda_sha(file):
    from retable.data.fetch import sha256_of

    return sha256_of(file)


@pytest.mark.skipif(MIRROR is None, reason="RETABLE_MIRROR is not set")
def test_the_authors_words(tmp_path):
    paths = DataPaths(tmp_path, Path(MIRROR))
    sizes = {axis: len(listed_words(axis, paths)) for axis in ("gender", "race", "religion")}
    assert sizes == {"gender": 57, "race": 6, "religion": 6}
    group = listed_words("group", paths)
    assert sorted({len(words) for words in group}) == [2, 3]
    assert len(group) == 22
    made = swaps("gender", paths)
    expected = {"guy": "girl", "girl": "guy", "lady": "lord", "sir": "miss", "mr.": "ms."}
    expected |= {"her": "his", "him": "her", "his": "her", "he": "she"}
    assert {word: made(word)[0] for word in expected} == expected
