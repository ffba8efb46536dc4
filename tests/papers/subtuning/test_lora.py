"""LoRA in a transformer's layer."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from retable.papers.subtuning import networks
from retable.papers.subtuning.lora import add_lora
from retable.util.errors import UserError


def block(seed=0):
    torch.manual_seed(seed)
    return networks.network("vit_tiny", 3).blocks[0]


def tokens(n=2):
    return torch.randn(n, 17, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rank", [1, 2, 16])
@pytest.mark.parametrize("training", [False, True])
def test_the_outputs_are_as_before_and_only_b_has_a_gradient_at_first(rank, training):
    plain = block().train(training)
    changed = copy.deepcopy(plain)
    add_lora(changed, rank)
    x, y = tokens().requires_grad_(), tokens().requires_grad_()
    out, expected = changed(x), plain(y)
    assert torch.allclose(out, expected, atol=1e-6)
    out.square().mean().backward()
    expected.square().mean().backward()
    # What comes before learns through the frozen attention, as it would without LoRA.
    assert torch.allclose(x.grad, y.grad, atol=1e-7)
    for name in ("ln_1.weight", "mlp.0.weight"):
        grads = (net.get_parameter(name).grad for net in (changed, plain))
        assert torch.allclose(*grads, atol=1e-7)
    lora = changed.self_attention
    for a, b in ((lora.a_qkv, lora.b_qkv), (lora.a_out, lora.b_out)):
        assert a.weight.grad.abs().max() == 0
        assert b.weight.grad.abs().max() > 0
    torch.optim.SGD([p for p in changed.parameters() if p.requires_grad], 0.01).step()
    changed.zero_grad()
    changed(tokens()).square().mean().backward()
    assert lora.a_qkv.weight.grad.abs().max() > 0
    assert lora.a_out.weight.grad.abs().max() > 0


def test_all_but_the_attention_is_trained_and_the_shapes_are_those_of_the_code():
    one = block().requires_grad_(False)
    add_lora(one, 2)
    trained = {k: tuple(p.shape) for k, p in one.named_parameters() if p.requires_grad}
    frozen = {k for k, p in one.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(k.startswith("self_attention.frozen.") for k in frozen)
    lora = {k: s for k, s in trained.items() if k.startswith("self_attention.")}
    assert lora == {
        "self_attention.a_qkv.weight": (6, 24),
        "self_attention.b_qkv.weight": (72, 6),
        "self_attention.a_out.weight": (2, 24),
        "self_attention.b_out.weight": (24, 2),
    }
    assert trained.keys() - lora.keys() == {
        f"{layer}.{kind}"
        for layer in ("ln_1", "ln_2", "mlp.0", "mlp.3")
        for kind in ("weight", "bias")
    }


@torch.no_grad()
def test_the_terms_are_those_of_an_attention_with_the_sums_written_out():
    one = block(1).eval()
    add_lora(one, 4)
    lora = one.self_attention
    generator = torch.Generator().manual_seed(2)
    for layer in (lora.b_qkv, lora.b_out):
        layer.weight.copy_(1e-3 * torch.randn(layer.weight.shape, generator=generator))
    plain = copy.deepcopy(lora.frozen)
    plain.in_proj_weight += 768 / 4 * lora.b_qkv.weight @ lora.a_qkv.weight
    x = tokens()
    # Of an attention without projection behind it: what the second pair is given.
    inside = copy.deepcopy(plain)
    inside.out_proj.weight.copy_(torch.eye(24))
    inside.out_proj.bias.zero_()
    mixed = inside(x, x, x, need_weights=False)[0]
    expected = F.linear(mixed, plain.out_proj.weight, plain.out_proj.bias)
    expected = expected + 768 / 4 * mixed @ (lora.b_out.weight @ lora.a_out.weight).T
    found = lora(x, x, x, need_weights=False)[0]
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, lora.frozen(x, x, x, need_weights=False)[0], atol=1e-2)


def test_what_cannot_have_it_is_refused():
    with pytest.raises(UserError, match=r"model\.rank: .* not for a BasicBlock"):
        add_lora(networks.network("resnet8", 3).blocks[0], 1)
    one = block()
    with pytest.raises(UserError, match=r"model\.rank: 0; at least 1"):
        add_lora(one, 0)
    add_lora(one, 1)
    with pytest.raises(UserError, match=r"has LoRA already"):
        add_lora(one, 1)
    x = tokens()
    with pytest.raises(ValueError, match="self-attention only"):
        one.self_attention(x, x.clone(), x)
