"""BiasBios from files of the true structure."""

from __future__ import annotations

import csv
import json

import pytest

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable, sha256_of
from retable.papers.peft_debias import cda
from retable.papers.peft_debias.data_bios import FILES, OCCUPATIONS, BiasBios
from retable.util.errors import UserError
from support import bias_texts

BIOS = [
    ("She works in a garden, and likes her plants.", "poet", "f"),
    ("He teaches\tin a hall.", "yoga_teacher", "m"),
    ("They work in a hall.", "accountant", "f"),
]


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "p", "g"), *rows])


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A mirror with a few bios."""
    (tmp_path / "biasbios").mkdir()
    for k, name in enumerate(FILES.values()):
        write(tmp_path / "biasbios" / name, BIOS * (3 - k))
    bias_texts.write_crows(tmp_path, monkeypatch)
    words = tmp_path / cda.WORDS
    words.write_text(json.dumps({"gender": cda.FEW_PAIRS, "group": [["a", "b"]]}))
    monkeypatch.setattr(cda, "WORDS_SHA256", sha256_of(words))
    return DataPaths(tmp_path / "cache", tmp_path)


def bios(paths, **options):
    sums = [sha256_of(paths.mirror / "biasbios" / name) for name in FILES.values()]
    return BiasBios(seed=0, paths=paths, **{"checksums": sums, **options})


def test_bios_have_occupation_and_gender(paths):
    data = bios(paths, task="classification", limit=5)
    data.prepare_data()
    data.setup("fit")
    (batch,) = data.test_dataloader()
    order = batch["item"].argsort()
    assert [OCCUPATIONS[k] for k in batch["label"][order].tolist()] == [p for _, p, _ in BIOS]
    assert batch["group"][order].tolist() == [1, 0, 1]
    text = data.tokenizer.decode(batch["input_ids"][order][1].tolist())
    assert text == "he teaches in a hall ."
    assert len(data.rows("train").texts) == 5
    assert data.classes == len(set(OCCUPATIONS)) == 28
    assert list(OCCUPATIONS) == sorted(OCCUPATIONS)


def test_augmented_bios_are_two_sided(paths):
    data = bios(paths, task="mlm", cda="gender")
    texts = data.rows("validation").texts
    assert texts[:4] == [
        "he works in a garden, and likes his plants.",
        "she works in a garden, and likes her plants.",
        "she teaches in a hall.",
        "he teaches in a hall.",
    ]
    assert len(texts) == 8, "the third names no gender"
    assert len(data.rows("test").texts) == 3


def test_another_file_or_none_is_refused(paths):
    with pytest.raises(UserError, match=r"data\.checksums: none is given; .*train\.csv has"):
        bios(paths, task="mlm", checksums=[None, None, None]).prepare_data()
    data = bios(paths, task="mlm")
    write(paths.mirror / "biasbios/test.csv", [("x", "plumber", "m")])
    with pytest.raises(UserError, match=r"test\.csv: is not the data of the experiment"):
        data.prepare_data()
    with pytest.raises(UserError, match="row 1: its class is none of accountant, architect"):
        data.rows("test")
    (paths.mirror / "biasbios/dev.csv").unlink()
    with pytest.raises(DataUnavailable, match=r"data\.folder: biasbios/dev\.csv: not in"):
        data.prepare_data()
