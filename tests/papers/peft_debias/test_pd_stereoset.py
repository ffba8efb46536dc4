"""StereoSet: files of its structure, sub-tokens, and means over target terms."""

from __future__ import annotations

import json
import math

import pytest
import torch

from retable.papers.peft_debias.stereoset import (
    LABELS,
    StereoSetExample,
    StereoSetScores,
    candidate_queries,
    read_stereoset,
    stereoset,
    term_scores,
)
from retable.util.errors import UserError
from support.masked_lm import MASK, NeighbourModel, ThreeWords, unigram

TOKENIZER = ThreeWords()


def entry(context="The box is BLANK.", words=("red", "blue", "green"), **other):
    labels = ("unrelated", "stereotype", "anti-stereotype")
    sentences = [
        {
            "id": f"s{k}",
            "sentence": context.replace("BLANK", word),
            "labels": [{"human_id": "h", "label": label}],
            "gold_label": label,
        }
        for k, (label, word) in enumerate(zip(labels, words, strict=True))
    ]
    base = {"id": "e", "target": "box", "bias_type": "gender", "context": context}
    return {**base, "sentences": sentences, **other}


def write(tmp_path, *entries):
    path = tmp_path / "dev.json"
    data = {"intersentence": [], "intrasentence": entries}
    path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return path


def test_a_file_of_the_published_structure(tmp_path):
    other = entry("BLANK, said the cat", ("red", "it's", "green"), bias_type="race", target="cat")
    path = write(tmp_path, entry(), other)
    first, second = read_stereoset(path)
    assert first == StereoSetExample("box", "gender", "The box is BLANK.", ("blue", "green", "red"))
    assert second.words == ("its", "green", "red")
    assert read_stereoset(path, "race") == [second]
    with pytest.raises(UserError, match="has no bias_type 'raec'; did you mean 'race'"):
        read_stereoset(path, "raec")


@pytest.mark.parametrize(
    "change",
    [
        {"context": "The box is secret."},
        {"sentences": []},
        {"target": "box", "sentences": [3]},
        {"sentences": entry(words=(".", "red", "red"))["sentences"]},
        {"sentences": [{"gold_label": "stereotype", "sentence": "secret"}]},
    ],
    ids=["no blank", "no sentence", "no text", "no word", "too short"],
)
def test_an_altered_example_is_named_and_not_shown(tmp_path, change):
    with pytest.raises(UserError, match=r"intrasentence\[1\] needs target, bias_type") as caught:
        read_stereoset(write(tmp_path, entry(), entry(**change)))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", "no json"])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "dev.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="is no file of StereoSet"):
        read_stereoset(path)


def test_sub_tokens_are_masked_one_at_a_time():
    queries = candidate_queries("red BLANK blue", "green-red-red", TOKENIZER.encode, MASK)
    assert queries.sequences == [[1, 4, 3, 6, 2], [1, 4, 5, 3, 6, 2], [1, 4, 5, 4, 3, 6, 2]]
    assert (queries.positions, queries.targets) == ([2, 3, 4], [5, 4, 4])
    kept = candidate_queries("red BLANK blue", "green-red", TOKENIZER.encode, MASK, keep_later=True)
    assert kept.sequences == [[1, 4, 3, 4, 6, 2], [1, 4, 5, 3, 6, 2]]


def test_probabilities_are_averaged_not_their_logarithms():
    # Means of probabilities .5, .49 and .1; of logarithms log .51 would be beaten.
    model = unigram(0.9, 0.1, 0.49)
    examples = [StereoSetExample("t", "k", "BLANK", ("red-green", "blue", "green"))]
    assert math.log(0.9) + math.log(0.1) < 2 * math.log(0.49)
    assert stereoset(model, examples, TOKENIZER) == StereoSetScores(100, 100, 1, 1)


@pytest.mark.parametrize("keep_later", [False, True])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_brute_force_with_known_logits(batch_size, keep_later):
    model = NeighbourModel.drawn(4)
    contexts = ["red BLANK", "BLANK blue green", "blue red BLANK red"]
    words = [
        ("red", "green-blue", "blue"),
        ("green", "red-red-blue", "blue-red"),
        ("blue-green", "red", "green"),
    ]
    examples = [
        StereoSetExample(term, "k", context, three)
        for context, three in zip(contexts, words, strict=True)
        for term in (("one", "two") if context == "red BLANK" else ("two",))
    ]

    def score(context, word):
        parts = word.split("-")
        total = 0.0
        for k in range(len(parts)):
            shown = parts if keep_later else parts[: k + 1]
            ids = TOKENIZER.encode(context.replace("BLANK", "-".join(shown)))
            at = 1 + len(context.split("BLANK")[0].split()) + k
            total += math.exp(model.score(ids, at))
        return total / len(parts)

    pro, related = {"one": [], "two": []}, {"one": [], "two": []}
    for example in examples:
        stereo, anti, unrelated = (score(example.context, word) for word in example.words)
        pro[example.target].append(stereo > anti)
        related[example.target] += [stereo > unrelated, anti > unrelated]
    found = stereoset(model, examples, TOKENIZER, keep_later=keep_later, batch_size=batch_size)
    for name, by_term in (("ss", pro), ("lm", related)):
        shares = [100 * sum(hits) / len(hits) for hits in by_term.values()]
        assert getattr(found, name) == pytest.approx(sum(shares) / 2)
    assert (found.terms, found.examples) == (2, 4)


def test_means_are_over_terms_not_examples():
    wins, losses = [0.3, 0.2, 0.1], [0.2, 0.3, 0.25]
    scores = torch.tensor([wins] + [losses] * 9)
    found = term_scores(scores, ["small"] + ["large"] * 9)
    # Over examples it would be 10 and 55.
    assert (found.ss, found.lm) == (50, 75)
    assert found.icat == 75


def test_ties_count_for_the_anti_stereotype_and_the_unrelated():
    found = term_scores(torch.full((2, 3), 0.2), ["a", "b"])
    assert (found.ss, found.lm, found.icat) == (0, 0, 0)


@pytest.mark.parametrize(
    ("ss", "lm", "icat"), [(50, 100, 100), (100, 100, 0), (0, 100, 0), (60.03, 80, 63.952)]
)
def test_icat(ss, lm, icat):
    assert StereoSetScores(ss, lm, 1, 1).icat == pytest.approx(icat)


def test_no_example_is_said():
    assert LABELS == ("stereotype", "anti-stereotype", "unrelated")
    with pytest.raises(ValueError, match="there is no example"):
        stereoset(unigram(0.5, 0.3, 0.2), [], TOKENIZER)
