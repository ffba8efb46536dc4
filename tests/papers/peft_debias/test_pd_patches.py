"""Patches: sizes, where they start, padding, who trains, and gradients through them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from retable.papers.peft_debias import patch_layers
from retable.papers.peft_debias.encoder import classifier, masked_lm
from retable.papers.peft_debias.patches import attach, patch_parameters, share

KINDS = ["adapter", "prefix_flat", "prompt_input", "lora"]
EACH = pytest.mark.parametrize("kind", KINDS)
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
SEEN = (IDS != 0).long()


def patched(kind, seed=1, make=masked_lm, *sizes, **options):
    model = make("tiny", 40, *sizes, seed=seed)
    attach(model.bert, kind, seed=seed, **options)
    return model.eval()


def patch_state(model):
    return {n: p.detach().clone() for n, p in patch_parameters(model).items()}


def stir(model, std=0.3):
    """Give every parameter of a patch a value, so that none is at its start."""
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in patch_parameters(model).values():
            p.copy_(torch.randn(p.shape, generator=draws) * std)
    return model


@pytest.mark.parametrize(
    ("kind", "size", "expected", "percent"),
    [
        ("adapter", None, 12 * (2 * 768 * 48 + 48 + 768), 0.82),
        ("adapter", 60, 12 * (2 * 768 * 60 + 60 + 768), 1.02),
        ("prefix_flat", None, 2 * 12 * 30 * 768, 0.51),
        ("prefix_flat", 60, 2 * 12 * 60 * 768, 1.01),
        ("prompt_input", None, 30 * 768, 0.02),
        ("lora", None, 12 * 2 * 2 * 8 * 768, 0.27),
        ("lora", 30, 12 * 2 * 2 * 30 * 768, 1.01),
    ],
)
def test_sizes_in_bert_in_closed_form(kind, size, expected, percent):
    """894,528, 552,960 and 294,912 by default: 0.82, 0.51 and 0.27 percent."""
    with torch.device("meta"):
        model = classifier("bert", 30_522, 2, seed=0)
        base = sum(p.numel() for p in model.parameters())
        attach(model.bert, kind, seed=0, size=size)
    assert sum(p.numel() for p in patch_parameters(model).values()) == expected
    assert share(model) == pytest.approx(expected / base)
    assert round(100 * share(model), 2) == percent


@EACH
def test_names_and_weights_of_the_encoder_stay(kind):
    plain = masked_lm("tiny", 40, seed=1).state_dict()
    state = patched(kind).state_dict()
    own = {n for n in state if ".patch." in n}
    assert own
    assert all(n.startswith("bert.encoder.") for n in own)
    assert set(state) - own == set(plain)
    assert all(torch.equal(state[n], plain[n]) for n in plain)


@EACH
def test_a_seed_gives_the_patch_and_leaves_the_global_generator(kind):
    before = torch.get_rng_state()
    one, same, other = (patch_state(patched(kind, seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert any(not torch.equal(one[n], other[n]) for n in one)
    drawn = [t for t in one.values() if t.any()]
    assert len({float(t.flatten()[0]) for t in drawn}) == len(drawn)


def test_first_weights():
    stds = {"adapter": 0.02, "prefix_flat": 1.0, "prompt_input": 1 / math.sqrt(12)}
    for kind, std in {**stds, "lora": 1 / 8 / math.sqrt(3)}.items():
        drawn = torch.cat([t.flatten() for t in patch_state(patched(kind, size=30)).values()])
        drawn = drawn[drawn != 0]
        assert abs(float(drawn.std()) / std - 1) < 0.1
        assert abs(float(drawn.mean())) < 4 * std / math.sqrt(len(drawn))


def test_lora_starts_as_the_network_itself():
    plain, model = masked_lm("tiny", 40, seed=1).eval(), patched("lora")
    torch.testing.assert_close(model(IDS, SEEN), plain(IDS, SEEN), atol=1e-6, rtol=0)
    stir(model)
    assert (model(IDS, SEEN) - plain(IDS, SEEN)).abs().max() > 1e-3


def test_lora_is_a_change_of_weights():
    """W + (alpha / r) B A in place of W of query and value."""
    model = stir(patched("lora", size=3, alpha=12.0))
    merged = masked_lm("tiny", 40, seed=1).eval()
    state = patch_state(model)
    for index, layer in enumerate(merged.bert.encoder.layer):
        for name in ("query", "value"):
            at = f"bert.encoder.layer.{index}.attention.self.{name}.patch."
            getattr(layer.attention.self, name).weight.data += 4 * state[at + "b"] @ state[at + "a"]
    torch.testing.assert_close(model(IDS, SEEN), merged(IDS, SEEN))


def test_prefix_is_the_network_itself_only_where_no_attention_goes_to_it(monkeypatch):
    plain, model = masked_lm("tiny", 40, seed=1).eval(), patched("prefix_flat")
    expected = plain(IDS, SEEN)
    assert (model(IDS, SEEN) - expected).abs().max() > 1e-2

    def without(mask, positions):
        return F.pad(mask, (positions, 0), value=False)

    monkeypatch.setattr(patch_layers, "extend_mask", without)
    torch.testing.assert_close(model(IDS, SEEN), expected, atol=1e-6, rtol=0)


def test_prefix_attention_by_hand():
    attention = patched("prefix_flat", size=3).bert.encoder.layer[0].attention.self
    x = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    keys = torch.cat([attention.patch.keys, attention.key(x)[0]])
    values = torch.cat([attention.patch.values, attention.value(x)[0]])
    heads = []
    for part in (slice(0, 32), slice(32, 64)):
        weights = (attention.query(x)[0][:, part] @ keys[:, part].T / math.sqrt(32)).softmax(1)
        heads.append(weights @ values[:, part])
    seen = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    torch.testing.assert_close(attention(x, seen)[0], torch.cat(heads, 1))


@pytest.mark.parametrize("reads", ["normed", "dense"])
def test_adapter_by_hand(reads):
    model = stir(patched("adapter", size=5, adapter_reads=reads))
    output = model.bert.encoder.layer[0].output
    h, x = torch.randn(2, 3, 4, 64, generator=torch.Generator().manual_seed(0)).unbind(0)
    inner = torch.randn(3, 4, 256, generator=torch.Generator().manual_seed(1))
    h = output.dense(inner)
    read = output.LayerNorm(h + x) if reads == "normed" else h
    patch = output.patch
    update = (read @ patch.down.T + patch.down_bias).clamp(min=0) @ patch.up.T + patch.up_bias
    torch.testing.assert_close(output(inner, x), output.LayerNorm(h + update + x))


def test_adapter_without_its_upper_weights_is_the_network_itself():
    plain, model = masked_lm("tiny", 40, seed=1).eval(), patched("adapter")
    with torch.no_grad():
        for name, p in patch_parameters(model).items():
            if ".up" in name:
                p.zero_()
    torch.testing.assert_close(model(IDS, SEEN), plain(IDS, SEEN))


@EACH
def test_a_sentence_alone_is_as_in_a_padded_batch(kind):
    model = stir(patched(kind))
    together = model(IDS, SEEN)
    assert together.shape == (2, 5, 40)
    for row, length in ((0, 5), (1, 3)):
        alone = model(IDS[row : row + 1, :length], SEEN[row : row + 1, :length])
        torch.testing.assert_close(alone[0], together[row, :length], atol=2e-5, rtol=1e-4)


@EACH
def test_an_encoder_that_is_evaluated_stays_so(kind):
    model = masked_lm("tiny", 40, seed=1)
    for training in (True, False):
        fresh = copy.deepcopy(model).train(training)
        attach(fresh.bert, kind, seed=1)
        assert {m.training for m in fresh.modules()} == {training}


@EACH
def test_padding_is_masked_and_the_patch_is_not(kind):
    model = stir(patched(kind))
    other = IDS.clone()
    other[1, 3:] = torch.tensor([20, 21])
    changed, same = model(other, SEEN)[1, :3], model(IDS, SEEN)[1, :3]
    torch.testing.assert_close(changed, same)
    model(IDS, SEEN)[1, 0].square().sum().backward()
    for name, p in patch_parameters(model).items():
        assert p.grad.abs().max() > 0, name


def test_prompt_keeps_the_first_output_for_the_pooler():
    """By the definition: the layers over [P; X], then [CLS] of the text."""
    model = stir(patched("prompt_input", 1, classifier, 3, size=4))
    prompt = model.bert.encoder.patch.vectors
    x = torch.cat([prompt.expand(1, -1, -1), model.bert.embeddings(IDS[:1])], 1)
    for layer in model.bert.encoder.layer:
        x = layer(x, torch.ones(1, 1, 1, x.shape[1], dtype=torch.bool))
    expected = model.classifier(torch.tanh(model.bert.pooler.dense(x[:, 4])))
    torch.testing.assert_close(model(IDS[:1], SEEN[:1]), expected)


def test_errors_name_the_option():
    model = patched("lora")
    with pytest.raises(ValueError, match=r"model\.patch: this encoder has one"):
        attach(model.bert, "adapter", seed=0)
    plain = masked_lm("tiny", 40, seed=1)
    with pytest.raises(ValueError, match=r"model\.patch: 'adaptor'.*'adapter'"):
        attach(plain.bert, "adaptor", seed=0)
    with pytest.raises(ValueError, match=r"model\.patch_size: 0"):
        attach(plain.bert, "lora", seed=0, size=0)
