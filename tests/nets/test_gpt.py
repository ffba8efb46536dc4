"""GPT-2: sizes, causality, attention by its definition, initial weights and tying."""

from __future__ import annotations

import math

import pytest
import torch

from retable.nets.gpt import Attention
from support.nets import configured, count, every_gradient, same_draw, size

NAME = "gpt.GPT"
SMALL = {"vocabulary": 11, "context": 6, "layers": 2, "heads": 2, "width": 8}


@pytest.mark.parametrize(
    ("layers", "width", "vocabulary", "context"), [(12, 768, 50_304, 1024), (2, 64, 32, 32)]
)
def test_sizes_in_closed_form(layers, width, vocabulary, context):
    given = {"layers": layers, "width": width, "vocabulary": vocabulary, "context": context}
    # 3 + 1 of the attention, 4 + 4 of the MLP, two gains a block and one at the end.
    wanted = (vocabulary + context) * width + layers * (12 * width**2 + 2 * width) + width
    assert size(NAME, **given, heads=4) == wanted


def test_gpt2_small_has_124_million_parameters():
    # nanoGPT counts them without the positions, and with the vocabulary rounded up.
    assert size(NAME) - 1024 * 768 == 123_587_328


def test_no_position_sees_a_later_one():
    torch.manual_seed(0)
    net = configured(NAME, **SMALL)
    tokens = torch.randint(11, (3, 6))
    for t in range(1, 6):
        other = tokens.clone()
        other[:, t:] = (other[:, t:] + 1) % 11
        assert torch.allclose(net(tokens)[:, :t], net(other)[:, :t], atol=1e-6)
        assert not torch.allclose(net(tokens)[:, t], net(other)[:, t], atol=1e-4)
    assert torch.allclose(net(tokens[:, :4]), net(tokens)[:, :4], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_by_its_definition(heads):
    torch.manual_seed(0)
    layer = Attention(8, heads).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    q, k, v = (x @ layer.c_attn.weight.T).split(8, dim=2)
    d = 8 // heads
    out = torch.zeros(2, 5, 8, dtype=torch.float64)
    for b in range(2):
        for head in range(heads):
            at = slice(head * d, (head + 1) * d)
            for t in range(5):
                scores = [float(q[b, t, at] @ k[b, s, at]) / math.sqrt(d) for s in range(t + 1)]
                weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
                out[b, t, at] = sum(w * v[b, s, at] for s, w in enumerate(weights))
    assert torch.allclose(layer(x), out @ layer.c_proj.weight.T, atol=1e-12)


@torch.no_grad()
def test_initial_weights():
    torch.manual_seed(0)
    net = configured(NAME, vocabulary=200, context=100, layers=8, heads=4, width=128)
    for name, parameter in net.named_parameters():
        if "ln_" in name:
            assert parameter.eq(1).all()
        else:
            std = 0.02 / 4 if "c_proj" in name else 0.02  # sqrt(2 * 8) = 4
            assert float(parameter.std()) == pytest.approx(std, rel=0.02), name
            assert float(parameter.mean()) == pytest.approx(0, abs=5 * std / len(parameter) ** 0.5)
    # At the start every token is about as likely as any other.
    loss = torch.nn.functional.cross_entropy(
        net(torch.randint(200, (4, 20))).flatten(0, 1), torch.randint(200, (80,))
    )
    assert float(loss) == pytest.approx(math.log(200), rel=0.05)


def test_the_output_layer_is_the_embedding_and_is_listed_once():
    net = configured(NAME, **SMALL)
    names = [name for name, _ in net.named_parameters()]
    assert net.lm_head.weight is net.wte.weight
    assert "wte.weight" in names
    assert "lm_head.weight" not in names
    assert not any("bias" in name for name in names)
    assert count(net) == sum(p.numel() for p in {id(p): p for p in net.parameters()}.values())


def test_gradients_and_draws():
    torch.manual_seed(0)
    every_gradient(configured(NAME, **SMALL), torch.randint(11, (4, 6)))
    same_draw(NAME, **SMALL)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(Exception, match=r"heads: 3 do not divide width 8; (2|4) would") as refused:
        configured(NAME, **{**SMALL, "heads": 3})
    assert isinstance(refused.value.__cause__, ValueError)
