"""Hate data from files of the true structure: reading, splits, vocabulary, refusals."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch

from retable.data.base import DataPaths
from retable.data.fetch import sha256_of
from retable.papers.peft_debias import cda, text_files
from retable.papers.peft_debias.data_text import FILES, IPTTS, WIKITEXT, Gab
from retable.papers.peft_debias.masking import IGNORED
from retable.papers.peft_debias.mentions import TERMS, mentions
from retable.util.errors import UserError
from support import bias_texts

MIRROR = os.environ.get("RETABLE_MIRROR")
GAB = ["", "text", "label", "a"]
POSTS = [
    ("A church is near, see https://example.org/a?b=1 now", 0),
    ("@some_one the garden, is large", 1),
    ("mail me@home www.example.org", 0),
    ("", 0),
    ("he walks by the church and the temple", 1),
    ("she walks", 0),
]
WORDS = (
    '{"gender": [["he", "she"]], "group": [["church", "mosque"]],'
    ' "race": [["red", "blue"]], "religion": [["church", "temple", "mosque"]]}'
)


def write(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([header, *rows])


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A mirror with small files of the true structure."""
    for name in (*FILES.values(), IPTTS, *WIKITEXT, cda.WORDS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    posts = [(k, text, label, 0) for k, (text, label) in enumerate(POSTS)]
    for name, rows in zip(FILES.values(), (posts * 3, posts[3:], posts), strict=True):
        write(tmp_path / name, GAB, rows)
    header = ["", "Text", "Label", "Template", "bin_label"]
    rows = [(0, "a muslim garden", "BAD", "t", 1), (1, "the trans walk", "NOT_BAD", "t", 0)]
    write(tmp_path / IPTTS, header, rows)
    for name in WIKITEXT:
        text = " \n = Heading = \n \n A well @-@ known garden . It is here . \n"
        (tmp_path / name).write_text(text)
    bias_texts.write_crows(tmp_path, monkeypatch)
    (tmp_path / cda.WORDS).write_text(WORDS)
    checked = {n: (u, sha256_of(tmp_path / n)) for n, (u, _) in text_files.SOURCES.items()}
    monkeypatch.setattr(text_files, "SOURCES", checked)
    monkeypatch.setattr(cda, "WORDS_SHA256", sha256_of(tmp_path / cda.WORDS))
    return DataPaths(tmp_path / "cache", tmp_path)


def made(paths, kind=Gab, *, seed=0, **options):
    data = kind(seed=seed, paths=paths, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def decoded(data, batches):
    """Texts before they were masked, in the alphabet's order."""
    return sorted(
        data.tokenizer.decode(row)
        for b in batches
        for row in torch.where(b["labels"] == IGNORED, b["input_ids"], b["labels"]).tolist()
    )


def test_addresses_and_mentions_are_removed():
    found = [text_files.normalised(text) for text, _ in POSTS[:4]]
    assert found == ["A church is near, see now", "the garden, is large", "mail me@home", ""]


def test_posts_have_classes_and_mentions(paths):
    data = made(paths, task="classification")
    (batch,) = data.test_dataloader()
    order = batch["item"].argsort()
    assert batch["label"][order].tolist() == [label for _, label in POSTS]
    found = batch["mentions"][order]
    assert found.shape == (6, 54)
    assert [[TERMS[k] for k in row.nonzero()[:, 0].tolist()] for row in found] == [
        *(["church"], [], [], [], ["church", "temple"], []),
    ]
    assert "labels" not in batch
    assert batch["input_ids"][order][3].tolist()[:2] == [data.tokenizer.cls, data.tokenizer.sep]


def test_text_without_classes_leaves_empty_posts_out(paths):
    data = made(paths, task="mlm")
    (batch,) = data.test_dataloader()
    assert decoded(data, [batch]) == [
        "a church is near , see now",
        "he walks by the church and the temple",
        "mail me @ home",
        "she walks",
        "the garden , is large",
    ]
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_augmented_training_and_validation(paths):
    group = made(paths, task="mlm", cda="group")
    assert len(group.rows("train").texts) == 3 * (5 + 2), "a church and a mosque"
    assert len(group.rows("validation").texts) == 2 + 1
    assert len(group.rows("test").texts) == 5
    gender = made(paths, task="mlm", cda="gender", limit=15)
    texts = gender.rows("train").texts
    assert len(texts) % 2 == 0
    heads = [text.split()[0] for text in texts]
    assert heads.count("he") == heads.count("she") == len(texts) / 2


def test_an_axis_without_a_match_is_refused(paths):
    file = paths.mirror / FILES["validation"]
    write(file, GAB, [(0, "the garden", 0, 0)])
    text_files.SOURCES[FILES["validation"]] = ("", sha256_of(file))
    with pytest.raises(UserError, match=r"validation has no text; with data\.cda"):
        made(paths, task="mlm", cda="gender")


def test_wikitext_is_added_to_training_alone(paths):
    plain, more = made(paths, task="mlm"), made(paths, task="mlm", wikitext=True)
    added = more.rows("train").texts[len(plain.rows("train").texts) :]
    assert added == ["A well-known garden .", "It is here ."] * 2
    for split in ("validation", "test"):
        assert more.rows(split) == plain.rows(split)


def test_the_vocabulary_is_that_of_all_modules(paths):
    options = [{"task": "mlm", "cda": "group"}, {"task": "mlm", "limit": 3, "wikitext": True}]
    options += [{"task": "classification", "limit": 2, "seed": 5}]
    made_ = [made(paths, **o).tokenizer.tokens for o in options]
    assert made_[0] == made_[1] == made_[2]
    assert {"well", "mosque", "she"} <= set(made_[0])
    assert made(paths, task="mlm", words=7).vocabulary == 12


def test_a_limit_takes_rows_at_random_the_same_for_every_seed(paths):
    whole = made(paths, task="classification").rows("train").texts
    some = [made(paths, task="classification", limit=7, seed=s).rows("train") for s in (0, 1)]
    assert some[0].texts == some[1].texts
    assert len(some[0].texts) == len(some[0].columns["label"]) == 7
    rest = iter(whole)
    assert all(text in rest for text in some[0].texts), "in their order"


def test_templates_have_their_classes(paths):
    (batch,) = made(paths, task="classification").templates()
    assert batch["label"][batch["item"].argsort()].tolist() == [1, 0]


def test_terms_are_words_or_anywhere():
    texts = ["Translate the GOD of americans", "god"]
    names = [
        [sorted(TERMS[k] for k in row.nonzero()[:, 0].tolist()) for row in mentions(texts, match)]
        for match in ("word", "substring")
    ]
    assert names == [[["god"], ["god"]], [["america", "american"], ["god"]]]
    assert len(set(TERMS)) == 54


def test_options_that_do_not_go_together_are_refused(paths):
    with pytest.raises(UserError, match=r"data\.cda: is for data\.task=mlm"):
        Gab(seed=0, paths=paths, task="classification", cda="group")
    with pytest.raises(UserError, match=r"data\.wikitext: is for data\.task=mlm"):
        Gab(seed=0, paths=paths, task="classification", wikitext=True)
    with pytest.raises(UserError, match=r"data\.vocabulary_file: goes with"):
        Gab(seed=0, paths=paths, task="mlm", vocabulary_file="vocab.txt")


def test_a_vocabulary_file_gives_word_pieces(paths):
    file = paths.mirror / "vocab.txt"
    file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "walk", "##s"]))
    given = {"vocabulary_file": "vocab.txt", "vocabulary_sha256": sha256_of(file)}
    data = made(paths, task="mlm", **given)
    assert data.tokenizer.encode("walks") == [2, 5, 6, 3]
    file.unlink()
    with pytest.raises(UserError, match=r"data\.vocabulary_file: vocab\.txt: not in"):
        made(paths, task="mlm", **given)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["text"], ["x"], "has no column label"),
        (["text", "label"], ["x"], "row 1: has other fields"),
        (["text", "label"], ["x", "2"], "row 1: its class is none of 0, 1"),
    ],
    ids=["column", "field", "class"],
)
def test_files_of_another_structure_are_refused(tmp_path, header, row, message):
    write(tmp_path / "a.csv", header, [row])
    with pytest.raises(UserError, match=message):
        text_files.gab(tmp_path / "a.csv")


def test_a_file_in_another_encoding_is_named(tmp_path):
    file = tmp_path / "posts.csv"
    file.write_bytes(b"text,label\ncaf\xe9,0\n")
    with pytest.raises(UserError, match=r"posts\.csv: is not UTF-8 text \(byte \d+\)$"):
        text_files.gab(file)


@pytest.mark.skipif(MIRROR is None, reason="RETABLE_MIRROR is not set")
def test_the_published_files_have_the_known_counts(tmp_path):
    paths = DataPaths(tmp_path, Path(MIRROR))
    found = {s: text_files.gab(text_files.source(name, paths))[1] for s, name in FILES.items()}
    assert {split: len(labels) for split, labels in found.items()} == {
        **{"train": 22_767, "validation": 1586, "test": 1344},
    }
    assert [int(labels.sum()) for labels in found.values()] == [1898, 129, 129]
    texts, labels = text_files.iptts(text_files.source(IPTTS, paths))
    assert (len(texts), int(labels.sum())) == (76_564, 38_282)
    counts = mentions(texts, "substring").sum(0)
    assert int((counts > 0).sum()) == 29
    assert counts[counts > 0].unique().tolist() == [1514, 3028]
    sentences = [text_files.wikitext(text_files.source(name, paths)) for name in WIKITEXT]
    assert all(len(part) > 5000 for part in sentences)
