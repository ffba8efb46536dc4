"""Upstream: what changes in a run, the course of sparse fine-tuning, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from retable.papers.peft_debias import made
from retable.papers.peft_debias.upstream import MaskedWords
from retable.training.execute import Context, build, execute
from retable.training.start import Start
from retable.util.errors import UserError
from support.peft_debias import PATCHES, SFT, changed, config, finished, numbers
from support.training import attempt, stopped, substance

PULL = "model.pull=0.1"


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return finished(config("pretrain"), tmp_path_factory.mktemp("parent"))[1]


def size(start):
    """Of a network; its decoder is the embedding matrix."""
    tied = "net.cls.predictions.decoder.weight"
    return sum(w.numel() for n, w in start.weights.items() if n != tied)


@pytest.fixture(scope="module")
def sparse_run(parent, tmp_path_factory):
    return finished(config("upstream", *SFT), tmp_path_factory.mktemp("sft"), parent)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PATCHES)
def test_only_the_patch_changes(kind, parent, tmp_path):
    outcome, end = finished(config("upstream", f"model.trained={kind}"), tmp_path, parent)
    assert not changed(parent, end, parent.weights)
    patch = {n for n in end.weights if ".patch." in n}
    assert set(end.weights) == {*parent.weights, *patch}
    _, module = build(config("upstream", f"model.trained={kind}"))
    first = Start(module.state_dict())
    assert changed(first, end, patch) == patch
    found = numbers(outcome)
    n = sum(end.weights[name].numel() for name in patch)
    assert found["patch/share"] == n / size(parent)


def test_full_debias_leaves_layer_norms_alone(parent, tmp_path):
    outcome, end = finished(config("upstream"), tmp_path, parent)
    moved = changed(parent, end, parent.weights)
    assert moved == {n for n in parent.weights if "LayerNorm" not in n}
    assert "patch/share" not in numbers(outcome)


def test_sparse_fine_tuning_changes_what_it_has_selected(parent, sparse_run):
    outcome, end = sparse_run
    masks = [end.weights[f"masks.{k}"] for k in range(sum("masks." in n for n in end.weights))]
    _, module = build(config("upstream", *SFT))
    names = [f"net.{n}" for n in module.masks.by_name(module.net)]
    entries = sum(mask.numel() for mask in masks)
    selected = sum(int(mask.sum()) for mask in masks)
    assert int(0.01 * entries) <= selected < 0.011 * entries
    for name, mask in zip(names, masks, strict=True):
        assert torch.equal(end.weights[name][~mask], parent.weights[name][~mask]), name
    assert changed(parent, end, names)
    assert not changed(parent, end, set(parent.weights) - set(names))
    assert numbers(outcome)["patch/share"] == selected / size(parent)


@pytest.mark.parametrize("kind", ["lora", "sft"])
def test_a_head_that_trains(kind, parent, tmp_path):
    """A patch is scored with the head of the start, ``sft`` with its own, as the authors do."""
    options = SFT if kind == "sft" else (f"model.trained={kind}",)
    cfg = config("upstream", *options, "model.freeze_head=false")
    outcome, end = finished(cfg, tmp_path, parent)
    moved = changed(parent, end, {n for n in parent.weights if ".cls." in n})
    trained = {f"net.cls.predictions.transform.dense.{n}" for n in ("weight", "bias")}
    norm = {f"net.cls.predictions.transform.LayerNorm.{n}" for n in ("weight", "bias")}
    assert moved == trained | ({"net.cls.predictions.bias"} if kind == "sft" else norm)
    data, module = build(cfg)
    weights = {**end.weights, **({} if kind == "sft" else {n: parent.weights[n] for n in moved})}
    module.load_state_dict(weights)
    data.setup("test")
    total, n = 0.0, 0
    with torch.no_grad():
        for batch in data.test_dataloader():
            chosen = batch["labels"] != -100
            of = module.eval().log_probs(batch).gather(2, batch["labels"].clamp(min=0)[..., None])
            total, n = total - float(of[chosen].double().sum()), n + int(chosen.sum())
    assert numbers(outcome)["test/perplexity"] == pytest.approx(math.exp(total / n), rel=1e-5)


def test_the_second_stage_starts_with_a_fresh_optimizer(parent, tmp_path, monkeypatch):
    """Momenta of the first stage would move what is selected otherwise."""
    states = []
    before = MaskedWords.on_train_epoch_start

    def noted(self):
        held = len(self.optimizers().optimizer.state)
        before(self)
        at_start = all(torch.equal(p, self._from[n]) for n, p in self.net.named_parameters())
        states.append((held > 0, len(self.optimizers().optimizer.state) > 0, at_start))

    monkeypatch.setattr(MaskedWords, "on_train_epoch_start", noted)
    finished(config("upstream", *SFT, "trainer.max_epochs=3"), tmp_path, parent)
    assert states == [(False, False, True), (True, False, True), (True, True, False)]


@pytest.mark.slow
def test_a_stop_at_either_side_of_the_rewind_changes_no_bit(parent, tmp_path):
    cfg = config("upstream", *SFT, PULL, "trainer.max_epochs=3")
    whole, *_ = attempt(cfg, tmp_path / "whole", start=parent)
    folders = stopped(cfg, tmp_path / "parts", [1, 1], start=parent)
    resumed, resume, _ = attempt(cfg, tmp_path / "last", previous=folders, start=parent)
    assert resume is not None
    assert substance(resumed) == substance(whole)


def test_an_epoch_before_the_rewind_is_no_patch(parent, tmp_path):
    cfg = config("upstream", *SFT, "best_epoch={monitor: val/loss, mode: min}")
    with pytest.raises(UserError, match=r"model\.sft_rewind: 1 is after .*best_epoch"):
        execute(cfg, Context(tmp_path, start=parent))


def test_what_is_refused(parent, tmp_path):
    cfg = config("upstream", *SFT, "model.optimizer.weight_decay=0.1")
    with pytest.raises(ValueError, match=r"optimizer\.weight_decay: 0\.1"):
        execute(cfg, Context(tmp_path / "decay", start=parent))
    with pytest.raises(ValueError, match=r"model\.sft_rewind: None with model\.trained=sft"):
        build(config("upstream", "model.trained=sft"))
    with pytest.raises(UserError, match=r"model\.vocabulary: 150.*has 149 tokens"):
        execute(config("pretrain", "model.vocabulary=150"), Context(tmp_path / "tokens"))
    _, module = build(config("upstream"))
    with pytest.raises(ValueError, match=r"start: bert\.embeddings\.word_embeddings\.weight is in"):
        module.take_start(Start({"net.bert.other": torch.ones(1)}))


def test_a_network_that_always_says_he_is_half_stereotyped():
    """Of the probe, by a bias of the head: right for the ten that go with male words."""
    data, module = build(config("pretrain"))
    with torch.no_grad():
        module.net.cls["predictions"].bias[data.tokenizer.number["he"]] = 50.0
    assert module.eval()._probe(data.tokenizer) == made.N_MALE / len(made.OCCUPATIONS)
