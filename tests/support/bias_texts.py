"""Small texts of the true structure for the paper on debiasing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from retable.papers.digits import few_texts

from retable.data.fetch import sha256_of
from retable.papers.peft_debias import cda, crows, data_nli
from retable.papers.peft_debias.data_bios import OCCUPATIONS
from retable.papers.peft_debias.data_text import FILES, IPTTS, WIKITEXT
from retable.papers.peft_debias.tokens import SPECIALS

POSTS = [("a church is near", 0), ("the garden is large", 1), ("the mosque and the garden", 0)]
TEMPLATES = [("a muslim garden", "BAD"), ("the gay walk", "NOT_BAD"), ("a large walk", "NOT_BAD")]
GROUP = [["church", "mosque"]]
VOCABULARY = (
    *("he", "she", "is", "near", "the", "a", "garden", "church", "mosque", "large", "likes"),
    *("ate", "apple", "poet", ".", ",", "walk"),
)
SPLITS = ("train.csv", "dev.csv", "test.csv")
NLI_WORDS = {
    **dict.fromkeys(data_nli.WORD_LISTS, "tree\n"),
    "nouns/people/occupations": "poet\nactor\n",
    "nouns/objects/food": "apple\nsoup\n",
    "verbs/eating_verbs": "ate\ncooked\n",
    "nouns/people/rulers": "king\ntree\n",
}


def write_csv(path: Path, header, rows) -> None:
    """A table of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_text(path: Path, text: str) -> str:
    """A file of text; its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return sha256_of(path)


def stereoset(kinds=("gender", "race")) -> str:
    """StereoSet with an example of each kind."""
    labels = ("stereotype", "anti-stereotype", "unrelated")
    words = ("large", "near", "garden")
    sentences = [
        {"gold_label": label, "sentence": f"the church is {word}."}
        for label, word in zip(labels, words, strict=True)
    ]
    entry = {"target": "church", "context": "the church is BLANK.", "sentences": sentences}
    return json.dumps({"data": {"intrasentence": [{**entry, "bias_type": k} for k in kinds]}})


def write_crows(mirror: Path, monkeypatch) -> None:
    """CrowS-Pairs with a pair on gender and one on race."""
    header = ["sent_more", "sent_less", "stereo_antistereo", "bias_type"]
    pairs = [("he is near", "she is near", "stereo", k) for k in ("gender", "race-color")]
    write_csv(mirror / crows.CROWS_FILE, header, pairs)
    monkeypatch.setattr(crows, "CROWS_SHA256", sha256_of(mirror / crows.CROWS_FILE))


def write_all(mirror: Path, monkeypatch) -> None:
    """Write every file that the paper reads, and let the paper know their checksums."""
    posts = [(k, text, label, 0) for k, (text, label) in enumerate(POSTS)]
    for name in FILES.values():
        write_csv(mirror / name, ["", "text", "label", "a"], posts)
    write_csv(mirror / IPTTS, ["Text", "Label"], TEMPLATES)
    for name in WIKITEXT:
        write_text(mirror / name, " \n A known garden . \n")
    write_text(mirror / cda.WORDS, json.dumps({"gender": cda.FEW_PAIRS, "group": GROUP}))
    write_crows(mirror, monkeypatch)
    for name, text in NLI_WORDS.items():
        write_text(mirror / "bias_nli" / name, text)
    bios = [(f"he likes the {p}.", p, g) for p in OCCUPATIONS for g in "mf"]
    nli = {"sentence1": "a garden is large", "sentence2": "a garden is near"}
    lines = [json.dumps({**nli, "gold_label": r}) for r in (*data_nli.RELATIONS, "-")]
    for split, name in zip(SPLITS, data_nli.FILES.values(), strict=True):
        write_csv(mirror / "biasbios" / split, ["text", "p", "g"], bios)
        write_csv(mirror / "lhc" / split, ["text", "label"], POSTS)
        write_text(mirror / "multinli_1.0" / name, "\n".join(lines) + "\n")
    write_text(mirror / "stereoset/test.json", stereoset())
    write_text(
        mirror / "google-bert/bert-base-uncased/vocab.txt",
        "\n".join([*SPECIALS, *VOCABULARY]) + "\n",
    )
    for module, name, value in few_texts.checksums(mirror):
        monkeypatch.setattr(module, name, value)


def reading(config, mirror: Path) -> list[str]:
    """Overrides that make a config read what was written, with a small network."""
    vocabulary = mirror / "google-bert/bert-base-uncased/vocab.txt"
    tokens = len(vocabulary.read_text(encoding="utf-8").splitlines())
    kind = config.data["_target_"].rpartition(".")[2]
    found = [f"data._target_={few_texts.__name__}.{kind}"]
    found += ["model.network=tiny", f"model.vocabulary={tokens}"]
    found += [f"data.vocabulary_sha256={sha256_of(vocabulary)}", "data.batch_size=8"]
    found += ["data.max_length=24", "data.iterations=1"]
    if "stereoset_file" in config.data:
        found.append(f"+data.stereoset_sha256={sha256_of(mirror / 'stereoset/test.json')}")
    folders = {"BiasBios": "biasbios", "Lhc": "lhc", "Mnli": "multinli_1.0"}
    if "checksums" in config.data:
        folder = mirror / folders[kind]
        names = data_nli.FILES.values() if folder.name == "multinli_1.0" else SPLITS
        sums = ",".join(sha256_of(folder / name) for name in names)
        found.append(f"data.checksums=[{sums}]")
    return found
