"""CrowS-Pairs: which tokens are scored, what counts, and the published file."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.data.base import DataPaths
from retable.papers.peft_debias.crows import (
    CROWS_FILE,
    CrowsPair,
    CrowsScores,
    crows,
    crows_file,
    pair_queries,
    read_crows,
)
from retable.papers.peft_debias.masked import (
    Queries,
    masked_at,
    mean_scores,
    off_balance,
    target_log_probs,
)
from retable.util.errors import UserError
from support.masked_lm import MASK, PAD, WORDS, NeighbourModel, ThreeWords, unigram

MIRROR = os.environ.get("RETABLE_MIRROR")
HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type\n"
TOKENIZER = ThreeWords()


def pair(more, less, direction="stereo"):
    return CrowsPair(more, less, direction, "colour")


@pytest.fixture
def real():
    if MIRROR is None or not (Path(MIRROR) / CROWS_FILE).is_file():
        pytest.skip("needs the real data: set RETABLE_MIRROR")
    return crows_file(DataPaths(cache=Path(MIRROR), mirror=Path(MIRROR)))


def test_each_token_that_differs_is_masked_alone():
    more, less = pair_queries([1, 7, 5, 8, 2], [1, 9, 6, 5, 4, 2], MASK)
    assert more.sequences == [[1, 3, 5, 8, 2], [1, 7, 5, 3, 2]]
    assert (more.positions, more.targets) == ([1, 3], [7, 8])
    assert less.sequences == [[1, 3, 6, 5, 4, 2], [1, 9, 3, 5, 4, 2], [1, 9, 6, 5, 3, 2]]
    assert (less.positions, less.targets) == ([1, 2, 4], [9, 6, 4])


def test_an_insertion_leaves_one_side_without_tokens_and_the_pair_is_skipped():
    longer, shorter = pair_queries([1, 4, 5, 2], [1, 5, 2], MASK)
    assert (longer.positions, len(shorter)) == ([1], 0)
    assert len(pair_queries([1, 4, 2], [1, 4, 2], MASK)[0]) == 0
    kept = pair("red green", "blue green")
    scores = crows(
        unigram(0.5, 0.3, 0.2), [pair("red green", "green"), kept, pair("red", "red")], TOKENIZER
    )
    assert (scores.n, scores.skipped, scores.percent) == (1, 2, 100)


def test_the_measure_of_a_unigram_model():
    frequent, rare = "red red green", "blue red green"
    pairs = [pair(frequent, rare), pair(frequent, rare), pair(rare, frequent)]
    scores = crows(unigram(0.5, 0.3, 0.2), pairs, TOKENIZER)
    assert scores == CrowsScores(3, 0, 0, 3, 0, 2, 0)
    assert scores.percent == pytest.approx(200 / 3)


def test_in_an_antistereo_pair_the_more_stereotypical_sentence_counts_too():
    pairs = [
        pair("red", "blue", "antistereo"),
        pair("blue", "red", "antistereo"),
        pair("red", "green", "antistereo"),
        pair("red", "blue"),
    ]
    scores = crows(unigram(0.5, 0.3, 0.2), pairs, TOKENIZER)
    assert scores == CrowsScores(4, 0, 0, 1, 3, 1, 2)
    turned = [CrowsPair(p.less, p.more, p.direction, p.bias_type) for p in pairs]
    assert crows(unigram(0.5, 0.3, 0.2), turned, TOKENIZER).percent == 25


def test_ties_count_for_neither_but_stay_in_the_number():
    # Log-probabilities that agree in three decimals: -1.2001 and -1.1999.
    near = unigram(2.718281828**-1.2001, 2.718281828**-1.1999, 0.1)
    pairs = [pair("red", "green"), pair("green", "red", "antistereo"), pair("red", "blue")]
    scores = crows(near, pairs, TOKENIZER)
    assert scores == CrowsScores(3, 0, 2, 1, 0, 1, 0)
    assert scores.percent == pytest.approx(100 / 3)
    apart = unigram(2.718281828**-1.202, 2.718281828**-1.2, 0.1)
    assert crows(apart, pairs[:1], TOKENIZER) == CrowsScores(1, 0, 0, 1, 0, 0, 0)


def test_tokens_of_an_antistereo_pair_are_compared_in_the_other_order():
    seen = []

    def spy(batch):
        seen.append(batch["input_ids"])
        return unigram(0.5, 0.3, 0.2)(batch)

    crows(spy, [pair("red green", "green red")], TOKENIZER)
    crows(spy, [pair("red green", "green red", "antistereo")], TOKENIZER)
    first, other = (batch.tolist() for batch in seen)
    assert first == [[1, 4, 3, 2], [1, 3, 4, 2]]
    assert other == [[1, 3, 5, 2], [1, 5, 3, 2]]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_scores_are_those_of_single_sentences(batch_size):
    model = NeighbourModel.drawn(1)
    more = [1, 4, 5, 6, 4, 4, 2], [1, 5, 2], [1, 4, 4, 5, 2]
    places = [2, 3], [1], [1, 3]
    groups = [masked_at(ids, at, MASK) for ids, at in zip(more, places, strict=True)]
    found = mean_scores(model, groups, probabilities=False, pad=PAD, batch_size=batch_size)
    wanted = [
        sum(model.score(ids, k) for k in at) / len(at) for ids, at in zip(more, places, strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, abs=1e-12)


def test_two_neighbours_that_differ_see_each_other():
    model = NeighbourModel.drawn(2)
    ids, other = TOKENIZER.encode("red green"), TOKENIZER.encode("blue blue")
    queries, _ = pair_queries(ids, other, MASK)
    found = target_log_probs(model, queries, pad=PAD)
    assert found.tolist() == pytest.approx([model.score(ids, 1), model.score(ids, 2)], abs=1e-12)
    at_once = Queries([[1, 3, 3, 2]] * 2, [1, 2], [4, 5])
    assert (found - target_log_probs(model, at_once, pad=PAD)).abs().min() > 1e-3


sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(sentences, sentences, st.booleans()), min_size=1, max_size=6))
def test_turning_all_pairs_turns_the_measure(drawn):
    """More and less change places, and so does the direction, which keeps the order of tokens."""
    model = NeighbourModel.drawn(3)
    names = ("antistereo", "stereo")
    pairs = [pair(a, b, names[stereo]) for a, b, stereo in drawn]
    turned = [pair(b, a, names[not stereo]) for a, b, stereo in drawn]
    one, two = (crows(model, given, TOKENIZER, batch_size=4) for given in (pairs, turned))
    assert (one.n, one.skipped, one.ties) == (two.n, two.skipped, two.ties)
    wins = (one, two)
    total = sum(score.stereo_wins + score.antistereo_wins for score in wins)
    assert total == one.n - one.ties
    assert (one.stereo, one.antistereo) == (two.antistereo, two.stereo)


def test_nothing_to_score_is_said():
    with pytest.raises(ValueError, match="no pair has tokens"):
        _ = crows(unigram(0.5, 0.3, 0.2), [pair("red", "red")], TOKENIZER).percent
    groups = [masked_at([1, 4, 2], [1], MASK), Queries()]
    with pytest.raises(ValueError, match="sentence 1 has no token"):
        mean_scores(unigram(0.5, 0.3, 0.2), groups, probabilities=True, pad=PAD)


def test_fifty_is_the_aim_from_both_sides():
    assert off_balance(52.62) == pytest.approx(2.62)
    assert off_balance(45.63) == pytest.approx(4.37)
    assert off_balance(45.63) > off_balance(52.62) > off_balance(50) == 0


def test_a_files_pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(
        HEADER
        + '0,"a red, red hat",a blue hat,stereo,colour\n'
        + "1,one,two,antistereo,race-color\n",
        encoding="utf-8",
    )
    both = read_crows(path)
    assert both[0] == CrowsPair("a red, red hat", "a blue hat", "stereo", "colour")
    assert read_crows(path, "race") == [both[1]] == read_crows(path, "race-color")
    with pytest.raises(UserError, match="has no bias_type 'color'; did you mean 'colour'"):
        read_crows(path, "color")


def test_an_altered_file_is_named_and_no_sentence_is_shown(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(HEADER + "0,one,two,secret sentence,colour\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2: stereo_antistereo is neither") as caught:
        read_crows(path)
    assert "secret" not in str(caught.value)
    path.write_text("sent_more,sent_less\n", encoding="utf-8")
    with pytest.raises(UserError, match="has no column 'stereo_antistereo'"):
        read_crows(path)


def test_the_published_pairs(real):
    pairs = read_crows(real)
    kinds = Counter(p.bias_type for p in pairs)
    assert (len(pairs), kinds["race-color"], kinds["gender"]) == (1508, 516, 262)
    assert Counter(p.direction for p in read_crows(real, "gender")) == {
        "stereo": 159,
        "antistereo": 103,
    }


@pytest.mark.parametrize("lower", [False, True])
def test_published_pairs_without_a_difference_by_words(real, lower):
    """One of race, which the paper's 515 leaves out as well, and none of gender."""
    ids: dict[str, int] = {}

    def encode(text):
        words = (text.lower() if lower else text).split()
        return [1, *(ids.setdefault(word, 4 + len(ids)) for word in words), 2]

    empty = Counter(
        p.bias_type
        for p in read_crows(real)
        if not all(len(side) for side in pair_queries(encode(p.more), encode(p.less), MASK))
    )
    assert empty == {"race-color": 1, "disability": 1}


def test_masks_and_padding_of_a_batch():
    batches = []

    def spy(batch):
        batches.append(batch)
        return torch.zeros(*batch["input_ids"].shape, 7)

    groups = Queries([[1, 3, 4, 5, 2], [1, 3, 2]], [1, 1], [4, 5])
    target_log_probs(spy, groups, pad=PAD)
    (batch,) = batches
    assert batch["input_ids"].tolist() == [[1, 3, 2, 0, 0], [1, 3, 4, 5, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
