"""Who trains: the patch alone upstream, all but it downstream, with gradients through it."""

from __future__ import annotations

import hashlib

import pytest
import torch
import torch.nn.functional as F

from retable.papers.peft_debias.encoder import classifier, masked_lm
from retable.papers.peft_debias.patches import attach, freeze_downstream, freeze_upstream

KINDS = ["adapter", "prefix_flat", "prompt_input", "lora"]
EACH = pytest.mark.parametrize("kind", KINDS)
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
SEEN = (IDS != 0).long()
WORDS = torch.where(IDS > 3, IDS, -100)


def hashes(model):
    """Of every tensor, those that no gradient reaches too."""
    return {
        n: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest()
        for n, t in model.state_dict().items()
    }


def loss_of(model, labels):
    """Of masked words, or of classes."""
    return F.cross_entropy(model(IDS, SEEN).flatten(0, -2), labels.flatten())


def changed(model, labels):
    """Names of tensors that two steps with weight decay move."""
    before = hashes(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model, labels).backward()
        optimizer.step()
    after = hashes(model)
    return {n for n in after if before[n] != after[n]}


@EACH
def test_upstream_only_the_patch_changes(kind):
    model = masked_lm("tiny", 40, seed=1)
    attach(model.bert, kind, seed=1)
    freeze_upstream(model)
    assert changed(model, WORDS) == {n for n in model.state_dict() if ".patch." in n}


def test_upstream_the_head_may_train_as_in_the_authors_code():
    model = masked_lm("tiny", 40, seed=1)
    attach(model.bert, "lora", seed=1)
    freeze_upstream(model, freeze_head=False)
    head = {f"cls.predictions.transform.{n}" for n in ("dense.weight", "dense.bias")}
    head |= {f"cls.predictions.transform.LayerNorm.{n}" for n in ("weight", "bias")}
    assert changed(model, WORDS) == head | {n for n in model.state_dict() if ".patch." in n}


@EACH
@pytest.mark.parametrize("norms", [True, False], ids=["norms_frozen", "norms_trained"])
def test_downstream_all_but_the_patch_changes(kind, norms):
    model = classifier("tiny", 40, 3, seed=1)
    attach(model.bert, kind, seed=1)
    freeze_upstream(model)  # what was frozen before is set anew
    freeze_downstream(model, freeze_layer_norm=norms)
    moved = changed(model, torch.tensor([0, 2]))
    kept = {n for n in model.state_dict() if ".patch." in n or (norms and "LayerNorm" in n)}
    assert moved == set(model.state_dict()) - kept
    assert len(kept) > 0


@EACH
def test_gradients_flow_through_a_frozen_patch(kind):
    """Of the loss by one embedding, against a central difference in double precision."""
    model = classifier("tiny", 40, 3, seed=1, dropout=0.0).double()
    attach(model.bert, kind, seed=1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".patch." in name:
                p.normal_(0, 0.3, generator=torch.Generator().manual_seed(2))
    freeze_downstream(model)
    labels = torch.tensor([0, 2])
    embeddings = model.bert.embeddings.word_embeddings.weight
    loss_of(model, labels).backward()
    for row, column in ((8, 5), (2, 40)):  # a word, and [CLS]
        losses = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                embeddings[row, column] += step
                losses.append(float(loss_of(model, labels)))
        with torch.no_grad():
            embeddings[row, column] += 1e-5
        exact = float(embeddings.grad[row, column])
        assert abs(exact) > 1e-7
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(exact, rel=1e-4)
