"""Published weights, further data sets, and the scores of the paper's tables, on small files."""

from __future__ import annotations

import itertools
import json
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable, sha256_of
from retable.papers.base import Start
from retable.papers.peft_debias import data_nli
from retable.papers.peft_debias.bias_nli import GENDERED
from retable.papers.peft_debias.data_bios import BiasBios
from retable.papers.peft_debias.data_nli import NEUTRAL, RELATIONS, Mnli, bias_nli
from retable.papers.peft_debias.data_text import Gab, Lhc
from retable.papers.peft_debias.encoder import masked_lm
from retable.papers.peft_debias.fairness import fprd
from retable.papers.peft_debias.pretrained import Debias, Entails, FineTune, Hateful, LinearDecay
from retable.util.errors import UserError
from support import bias_texts

FILES = {"lhc": bias_texts.SPLITS, "multinli_1.0": tuple(data_nli.FILES.values())}
FILES["biasbios"] = bias_texts.SPLITS


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A mirror with all files of the paper."""
    bias_texts.write_all(tmp_path, monkeypatch)
    return DataPaths(tmp_path / "cache", tmp_path)


def made(kind, paths, folder=None, **options):
    """A data module that has read its files."""
    if folder is not None:
        options["checksums"] = [sha256_of(paths.mirror / folder / n) for n in FILES[folder]]
    vocabulary = "google-bert/bert-base-uncased/vocab.txt"
    options["vocabulary_file"] = vocabulary
    options["vocabulary_sha256"] = sha256_of(paths.mirror / vocabulary)
    data = kind(seed=0, paths=paths, **options)
    data.prepare_data()
    data.setup("test")
    return data


def scored(module, data):
    """Results of a test by their names."""
    trainer = pl.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu"
    )
    trainer.test(module, data, verbose=False)
    return {result.metric: result.value for result in module.results}


def weights_of_a_file(vocabulary, *, early=True):
    """A masked language model's weights as they are published: another pooler, early names."""
    state = masked_lm("tiny", vocabulary, seed=9).state_dict()
    state["bert.pooler.dense.weight"] = torch.full((64, 64), 0.25)
    state["bert.pooler.dense.bias"] = torch.full((64,), 0.5)
    del state["cls.predictions.decoder.weight"]
    old = {"weight": "gamma", "bias": "beta"}
    for name in [n for n in state if "LayerNorm" in n and early]:
        before, _, last = name.rpartition(".")
        state[f"{before}.{old[last]}"] = state.pop(name)
    return Start(state)


def test_the_rate_falls_to_zero_and_begins_anew():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler, rates = LinearDecay(optimizer, 4), []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [2.0, 1.5, 1.0, 0.5, 2.0, 1.5]


@pytest.mark.parametrize("trained", ["all", "adapter", "prefix_flat", "lora", "sft"])
def test_published_weights_go_through_both_phases(trained):
    rewind = {"sft_rewind": 1} if trained == "sft" else {}
    start = weights_of_a_file(40)
    up = Debias(seed=0, vocabulary=40, trained=trained, **rewind)
    patch = {n: p.clone() for n, p in up.net.named_parameters() if ".patch." in n}
    up.take_start(start)
    pooler = up.net.bert.pooler["dense"]
    assert not any(p.requires_grad for p in pooler.parameters())
    words = up.net.bert.embeddings.word_embeddings.weight
    assert torch.equal(words, start.weights["bert.embeddings.word_embeddings.weight"])
    assert all(torch.equal(p, up.net.get_parameter(n)) for n, p in patch.items())
    state = {n: w.clone() for n, w in up.state_dict().items()}
    down = FineTune(
        seed=1, vocabulary=40, n_classes=3, patch="none" if trained == "all" else trained
    )
    down.take_start(Start(state))
    assert torch.equal(down.net.bert.pooler["dense"].bias, torch.full((64,), 0.5))
    own = {n: w for n, w in down.state_dict().items() if n.startswith("net.bert.")}
    assert all(torch.equal(w, state[n]) for n, w in own.items())
    plain = FineTune(seed=1, vocabulary=40, n_classes=3)
    plain.take_start(start)
    if not patch:
        assert all(torch.equal(w, own[n]) for n, w in plain.state_dict().items() if n in own)


def test_a_patch_comes_from_a_run_and_nothing_may_be_missing():
    start = weights_of_a_file(40)
    module = FineTune(seed=0, vocabulary=40, n_classes=2, patch="lora")
    with pytest.raises(ValueError, match=r"model\.patch: lora comes from a run; give start\.run"):
        module.take_start(start)
    del start.weights["bert.encoder.layer.1.attention.self.key.bias"]
    with pytest.raises(UserError, match=r"there is no bert\.encoder\.layer\.1\.attention"):
        Debias(seed=0, vocabulary=40).take_start(start)


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [(partial(BiasBios, folder="biasbios"), "gender"), (Gab, "race")],
    ids=["gender", "race"],
)
def test_stereotypes_are_scored_upstream(paths, kind, pairs):
    folder = "biasbios" if pairs == "gender" else None
    known = sha256_of(paths.mirror / "stereoset/test.json")
    options = {"task": "mlm", "stereoset_file": "stereoset/test.json", "stereoset_sha256": known}
    data = made(kind, paths, folder, **options)
    module = Debias(seed=0, vocabulary=data.vocabulary, pairs=pairs)
    found = scored(module, data)
    assert found["test/ss_score"] in (0, 1)
    assert found["test/ss_lm"] in (0, 0.5, 1)
    assert found["test/n_pairs"] == 1
    assert "test/ss_score" not in scored(
        Debias(seed=0, vocabulary=data.vocabulary, pairs=pairs),
        made(kind, paths, folder, task="mlm"),
    )


def test_what_a_score_needs_is_refused_before_a_run(paths):
    given = {"task": "mlm", "stereoset_file": "stereoset/test.json"}
    with pytest.raises(UserError, match=r"data\.stereoset_sha256: none is given; .* has [0-9a-f]"):
        made(Gab, paths, **given)
    (paths.mirror / "stereoset/test.json").unlink()
    with pytest.raises(DataUnavailable, match=r"data\.stereoset_file: stereoset/test\.json: not"):
        made(Gab, paths, **given)
    (paths.mirror / "google-bert/bert-base-uncased/vocab.txt").unlink()
    gab = Gab(seed=0, paths=paths, task="mlm", vocabulary_file="v.txt", vocabulary_sha256="0" * 64)
    with pytest.raises(DataUnavailable, match=r"data\.vocabulary_file: v\.txt: not in"):
        gab.prepare_data()


def test_tweets_have_classes_and_mentions(paths):
    data = made(Lhc, paths, "lhc")
    (batch,) = data.test_dataloader()
    order = batch["item"].argsort()
    assert batch["label"][order].tolist() == [label for _, label in bias_texts.POSTS]
    assert batch["mentions"][order].sum(1).tolist() == [1, 0, 1]
    with pytest.raises(UserError, match=r"lhc/train\.csv: is not the data of the experiment"):
        Lhc(seed=0, paths=paths, checksums=["0" * 64] * 3).prepare_data()


@pytest.mark.parametrize("kind", ["gab", "lhc"])
def test_hate_is_looked_for_in_templates(paths, kind):
    if kind == "lhc":
        data = made(Lhc, paths, "lhc", eval_batch_size=2)
    else:
        data = made(Gab, paths, task="classification", eval_batch_size=2)
    module = Hateful(seed=0, vocabulary=data.vocabulary, n_classes=2)
    with torch.no_grad():  # one that finds hate in a part of the texts
        module.net.classifier.weight.mul_(50)
    found = scored(module, data)
    logits, given = module.eval().logits_of(data.templates())
    assert logits.shape == (len(bias_texts.TEMPLATES), 2)
    assert given["label"][given["item"].argsort()].tolist() == [1, 0, 0]
    for name, mode in (("test/fprd_iptts", "paper"), ("test/fprd_iptts_code", "code")):
        by_hand = fprd(given["label"], logits.argmax(1), given["mentions"], mode=mode)
        assert found[name] == pytest.approx(by_hand.value)
    assert found["test/positive_rate_iptts"] == pytest.approx(
        float(logits.argmax(1).double().mean())
    )


def test_pairs_have_relations_and_those_without_are_left_out(paths):
    data = made(Mnli, paths, "multinli_1.0")
    (batch,) = data.test_dataloader()
    assert sorted(batch["label"].tolist()) == [0, 1, 2]
    tokenizer = data.tokenizer
    row = batch["input_ids"][0].tolist()
    assert row.count(tokenizer.sep) == 2
    assert tokenizer.decode(row) == "a garden is large a garden is near"
    assert data.class_names[NEUTRAL] == RELATIONS[NEUTRAL] == "neutral"


@pytest.mark.parametrize("line", ["[]", "{", '{"gold_label": "neutral"}', '{"gold_label": "x"}'])
def test_a_line_of_another_structure_is_refused(tmp_path, line):
    file = tmp_path / "pairs.jsonl"
    good = {"sentence1": "a", "sentence2": "b", "gold_label": "-"}
    file.write_text(json.dumps(good) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"pairs\.jsonl, line 2: is no pair of MultiNLI"):
        data_nli.mnli(file)


def test_pairs_of_bias_nli_are_all_that_the_lists_give(paths):
    pairs = [one[k] for one in bias_nli(paths) for k in range(len(one))]
    things = ["tree"] * 2 + ["apple", "soup"] + ["tree"] * 3
    said = [f"tree {'an' if t == 'apple' else 'a'} {t}." for t in things]
    said += ["tree a king.", "tree a tree.", "tree a tree."]
    said += [f"{v} {t}." for v in ("ate", "cooked") for t in ("an apple", "a soup")]
    occupations, words = ("A poet", "An actor"), [f"A {word}" for word in GENDERED]
    wanted = [
        (f"{one} {end}", f"{other} {end}")
        for one, other, end in itertools.product(occupations, words, said)
    ]
    assert sorted(pairs) == sorted(wanted)


def test_the_neutral_share_is_that_of_drawn_pairs(paths):
    data = made(Mnli, paths, "multinli_1.0", bias_pairs=7)
    module = Entails(seed=0, vocabulary=data.vocabulary, n_classes=3)
    found = scored(module, data)
    logits, given = module.eval().logits_of(data.neutral_pairs())
    assert given["label"].tolist() == [NEUTRAL] * 7
    assert found["test/fn"] == pytest.approx(float((logits.argmax(1) == NEUTRAL).double().mean()))
    with torch.no_grad():
        module.net.classifier.bias[NEUTRAL] = 100.0
    assert scored(module, data)["test/fn"] == 1


def test_tokens_of_a_second_sentence_are_of_the_second_kind(paths):
    data = made(Mnli, paths, "multinli_1.0")
    module = Entails(seed=0, vocabulary=data.vocabulary, n_classes=3).eval()
    scored(module, data)
    embeddings = module.net.bert.embeddings.eval()
    sep = data.tokenizer.sep
    ids = torch.tensor([[2, 7, sep, 8, 9, sep], [2, 7, 8, 9, sep, 0]])
    with torch.no_grad():
        out = embeddings(ids)
        kinds = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]])  # padding is not seen
        x = embeddings.word_embeddings(ids) + embeddings.position_embeddings.weight[:6]
        by_hand = embeddings.LayerNorm(x + embeddings.token_type_embeddings(kinds))
        assert torch.allclose(out, by_hand)
        embeddings.sep = None
        first = embeddings(ids)
    assert torch.allclose(first[1, :5], out[1, :5])
    assert not torch.allclose(first[0, 3:], out[0, 3:])
