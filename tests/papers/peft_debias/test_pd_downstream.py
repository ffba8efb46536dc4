"""Downstream: the patch stays as it is, the rest trains through it, and what a start must bring."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from retable.papers.peft_debias import made
from retable.training.execute import build
from retable.training.start import Start
from support.peft_debias import PATCHES, SFT, changed, config, finished, numbers


@pytest.fixture(scope="module")
def sparse_start(tmp_path_factory):
    return finished(config("upstream", *SFT), tmp_path_factory.mktemp("sft"))[1]


def upstream(kind, *overrides):
    """What an upstream run of another seed would leave, untrained."""
    _, module = build(config("upstream", f"model.trained={kind}", *overrides, seed=7))
    return Start({n: w.clone() for n, w in module.state_dict().items()})


def downstream(kind, *overrides):
    return build(config("downstream", f"model.patch={kind}", *overrides))[1]


@pytest.mark.parametrize("kind", ["none", "adapter", "prefix_flat"])
def test_all_but_the_patch_changes(kind, tmp_path):
    start = upstream("all" if kind == "none" else kind)
    outcome, end = finished(config("downstream", f"model.patch={kind}"), tmp_path, start)
    shared = {n for n in start.weights if n.startswith("net.bert.")}
    fixed = {n for n in shared if ".patch." in n or "LayerNorm" in n}
    assert changed(start, end, shared) == shared - fixed
    found = numbers(outcome)
    assert set(found) == {
        f"test/{n}" for n in ("loss", "accuracy", "f1", "positive_rate", "tpr_gap")
    }
    gaps = [r for r in outcome.results if r.metric == "test/class_gap"]
    assert {r.step for r in gaps} <= set(range(len(made.OCCUPATIONS)))
    rms = (sum(r.value**2 for r in gaps) / len(gaps)) ** 0.5
    assert found["test/tpr_gap"] == pytest.approx(rms, rel=1e-6)


def test_a_sparse_patch_stays_to_the_bit(sparse_start, tmp_path):
    _, end = finished(config("downstream", "model.patch=sft"), tmp_path, sparse_start)
    names = [f"net.{n}" for n in downstream("sft").kept.by_name(downstream("sft").net)]
    moved = 0
    for k, name in enumerate(names):
        mask, before = sparse_start.weights[f"masks.{k}"], sparse_start.weights[name]
        assert torch.equal(end.weights[f"kept.{k}"], mask)
        assert torch.equal(end.weights[name][mask], before[mask]), name
        moved += int((end.weights[name][~mask] != before[~mask]).sum())
    assert moved > 10_000


@pytest.mark.parametrize("kind", [*PATCHES, "sft"])
def test_encoder_and_patch_are_those_of_the_start(kind, sparse_start):
    start = sparse_start if kind == "sft" else upstream(kind)
    module = downstream(kind)
    pooler = module.net.bert.pooler["dense"].weight.clone()
    module.take_start(start)
    own = module.net.bert.state_dict()
    for name in (n for n in own if "pooler" not in n):
        assert torch.equal(own[name], start.weights[f"net.bert.{name}"]), name
    assert torch.equal(module.net.bert.pooler["dense"].weight, pooler)


@pytest.mark.parametrize(
    ("upstream_is", "patch"),
    [("adapter", "lora"), ("all", "lora"), ("lora", "none"), ("lora", "sft"), ("all", "sft")],
)
def test_another_patch_is_refused(upstream_is, patch):
    with pytest.raises(ValueError, match=r"(start|model\.patch): "):
        downstream(patch).take_start(upstream(upstream_is))


def test_a_sparse_patch_is_not_taken_for_none(sparse_start):
    with pytest.raises(ValueError, match=r"model\.patch: none, .* has a sparse patch"):
        downstream("none").take_start(sparse_start)
    with pytest.raises(RuntimeError, match="size mismatch"):
        downstream("lora", "model.patch_size=2").take_start(upstream("lora", "model.patch_size=3"))


def test_class_weights_are_divided_by_their_sum_in_the_batch():
    weights = [1.0] * 19 + [10.0]
    module = downstream("none", f"model.class_weights={weights}")
    module.trainer = type("Trainer", (), {"testing": False})()
    ids = torch.arange(5, 17).view(2, 6)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    label = torch.tensor([3, 19])
    with torch.no_grad():
        module.eval()
        each = F.cross_entropy(module.net(ids, torch.ones_like(ids)), label, reduction="none")
        loss = module.shared_step({**batch, "label": label}).loss
    assert loss.item() == pytest.approx(float(each[0] + 10 * each[1]) / 11, rel=1e-5)
    with pytest.raises(ValueError, match=r"model\.class_weights: 2 numbers for 20 classes"):
        downstream("none", "model.class_weights=[1.0,2.0]")
