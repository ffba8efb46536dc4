"""Sparse fine-tuning: what is selected, what moves, and what the pull towards the start is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retable.papers.peft_debias import sparse
from retable.papers.peft_debias.encoder import masked_lm

IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
SEEN = (IDS != 0).long()
WORDS = torch.where(IDS > 3, IDS, -100)


class Small(nn.Module):
    """Two tensors that may be selected, a norm and a head that may not."""

    def __init__(self, first, second):
        super().__init__()
        self.bert = nn.Module()
        self.bert.one = nn.Parameter(torch.tensor(first))
        self.bert.two = nn.Parameter(torch.tensor(second).view(-1, 1))
        self.bert.LayerNorm = nn.LayerNorm(2)
        self.head = nn.Parameter(torch.full((3,), 9.0))


def zeros(model):
    return {n: torch.zeros_like(p) for n, p in model.named_parameters()}


def values(shortest):
    whole = st.integers(-4, 4).map(float)  # few values, so that ties are common
    return st.lists(whole, min_size=shortest, max_size=8)


@given(values(1), values(1), st.integers(1, 16))
@settings(deadline=None, max_examples=60)
def test_most_changed_over_all_tensors_together(first, second, k):
    model = Small(first, second)
    k = min(k, len(first) + len(second))
    masks = sparse.most_changed(model, zeros(model), k)
    assert {n: m.shape for n, m in masks.items()} == {
        "bert.one": (len(first),),
        "bert.two": (len(second), 1),
    }
    chosen = torch.cat([m.flatten() for m in masks.values()]).tolist()
    changes = [abs(v) for v in first + second]
    threshold = sorted(changes, reverse=True)[k - 1]
    assert chosen == [c >= threshold for c in changes]
    assert sum(chosen) >= k


def test_one_tensor_may_have_all_of_them():
    """Selected in each tensor apart, it would be one of each."""
    model = Small([5.0, -6.0], [1.0, 2.0])
    masks = sparse.most_changed(model, zeros(model), 2)
    assert masks["bert.one"].tolist() == [True, True]
    assert not masks["bert.two"].any()
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"model.sft_share: {k} of 4"):
            sparse.most_changed(model, zeros(model), k)


def test_budget_of_bert_in_closed_form():
    """One percent of embeddings and dense layers, no LayerNorm, no pooler."""
    d, inner = 768, 3072
    dense = 12 * (4 * (d * d + d) + d * inner + inner + inner * d + d)
    with torch.device("meta"):
        model = masked_lm("bert", 30_522, seed=0)
    assert sparse.budget(model, 0.01) == int(0.01 * ((30_522 + 512 + 2) * d + dense)) == 1_088_532


def test_the_decoder_is_untied_and_frozen():
    model = masked_lm("tiny", 40, seed=1).eval()
    before = model(IDS, SEEN)
    n = sum(p.numel() for p in model.parameters())
    sparse.untie(model)
    assert torch.equal(model(IDS, SEEN), before)
    assert sum(p.numel() for p in model.parameters()) == n + 40 * 64
    assert not model.cls.predictions.decoder.weight.requires_grad
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[7] += 1
    assert not torch.equal(
        model.cls.predictions.decoder.weight[7], model.bert.embeddings.word_embeddings.weight[7]
    )


def test_pull_by_hand():
    model = Small([1.0, -2.0], [0.0, 0.5])
    model.bert.LayerNorm.requires_grad_(False)
    start = zeros(model) | {"head": torch.full((3,), 8.0)}
    loss = sparse.pull(model, start, 0.1)
    assert loss.item() == pytest.approx(0.1 * (1 + 2 + 0.5 + 3 * 1) / (2 + 2 + 4 + 3))
    loss.backward()
    each = 0.1 / 11
    assert model.bert.one.grad.tolist() == pytest.approx([each, -each])
    assert model.bert.two.grad.flatten().tolist() == pytest.approx([0.0, each])


def test_weight_decay_is_refused_for_it_moves_masked_weights():
    weight = nn.Parameter(torch.ones(2))
    decaying = torch.optim.AdamW([weight], 0.1, weight_decay=0.1)
    weight.grad = torch.zeros(2)
    decaying.step()
    assert bool((weight < 1).all())
    with pytest.raises(ValueError, match=r"optimizer\.weight_decay: 0\.1 .*give 0"):
        sparse.check_optimizer(decaying)
    sparse.check_optimizer(torch.optim.AdamW([weight], 0.1, weight_decay=0.0))


def train(model, steps, labels, masks=None, start=None):
    """Adam with a learning rate that moves every weight that has a gradient."""
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], 1e-2, weight_decay=0.0
    )
    sparse.check_optimizer(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(IDS, SEEN).flatten(0, -2), labels.flatten())
        if start is not None:
            loss = loss + sparse.pull(model, start, 0.1)
        loss.backward()
        if masks is not None:
            sparse.mask_gradients(model, masks)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def test_the_whole_course():
    """Full training, selection, rewind and sparse training."""
    model = masked_lm("tiny", 40, seed=1)
    sparse.untie(model)
    sparse.freeze_layer_norm(model)
    start = sparse.snapshot(model)
    train(model, 3, WORDS, start=start)
    k = sparse.budget(model, 0.01)
    masks = sparse.most_changed(model, start, k)
    assert k <= sum(int(m.sum()) for m in masks.values()) < 2 * k
    sparse.rewind(model, start)
    assert all(torch.equal(p, start[n]) for n, p in model.named_parameters())

    train(model, 3, WORDS, masks, start)
    moved_head = False
    for name, p in model.named_parameters():
        if name in masks:
            assert torch.equal(p[~masks[name]], start[name][~masks[name]]), name
        elif "LayerNorm" in name or "decoder" in name:
            assert torch.equal(p, start[name]), name
        else:  # the head trains densely, and is dropped with its network
            moved_head |= not torch.equal(p, start[name])
    assert moved_head
