"""A head on some features of all layers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.papers.subtuning import networks
from retable.papers.subtuning.head2toe import (
    features,
    fit_head,
    group_lasso,
    joined,
    layers,
    pooled,
    select,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(name, n_classes=4):
    torch.manual_seed(0)
    return networks.network(name, n_classes)


def images(n=5, side=32):
    return torch.randn(n, 3, side, side, generator=generator())


@pytest.mark.parametrize(
    ("shape", "target", "n"),
    [
        ((16, 32, 32), 1024, 16 * 8 * 8),
        ((16, 32, 32), 1000, 16 * 7 * 7),
        ((64, 8, 8), 10**6, 64 * 8 * 8),  # not more than there is
        ((2048, 7, 7), 8192, 2048 * 4),
        ((64, 8, 8), 10, 64),  # one per channel at least
        ((17, 24), 100, 24 * 4),
        ((17, 24), 10**6, 24 * 17),
        ((17, 24), 10, 24),
        ((512,), 10, 512),
    ],
)
def test_sizes_after_pooling(shape, target, n):
    h = torch.rand(2, *shape, generator=generator())
    found = pooled(h, target)
    assert found.shape == (2, n)
    assert n <= max(target, shape[0] if len(shape) != 2 else shape[1])
    assert torch.allclose(found.mean(), h.mean(), atol=0.02)


def test_cells_are_averaged_channel_by_channel():
    h = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
    cells = h.view(1, 2, 2, 2, 2, 2).mean((3, 5))
    assert torch.equal(pooled(h, 8), cells.flatten(1))
    tokens = torch.arange(4 * 3.0).view(1, 4, 3)
    groups = tokens.view(1, 2, 2, 3).mean(2)  # (1, group, d)
    assert torch.equal(pooled(tokens, 6), groups.transpose(1, 2).flatten(1))


def test_layers_of_a_bottleneck_network():
    net = drawn("resnet50")
    names = [*layers(net)]
    assert len(names) == 16 * 3 + 3
    assert [names[0], *names[-2:]] == ["stem", "blocks.15", "fc"]
    assert not any("downsample" in name for name in names)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [2, 5])
def test_features_of_a_resnet_are_its_outputs(batch_size):
    net = drawn("resnet8").train()
    found = features(net, images(), 256, batch_size)
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())
    net.eval()
    convs = [f"blocks.{i}.conv{j}" for i in range(3) for j in (1, 2)]
    assert [*found] == ["stem", *convs, "blocks.2", "fc"]
    stem = net.stem(images())
    assert torch.allclose(found["stem"], pooled(stem, 256), atol=1e-5)
    assert torch.allclose(
        found["blocks.0.conv1"], pooled(net.blocks[0].conv1(stem), 256), atol=1e-5
    )
    assert torch.allclose(found["blocks.2"], pooled(net.before(images(), 3), 256), atol=1e-5)
    assert torch.allclose(found["fc"], net(images()), atol=1e-5)
    sizes = [h.shape[1] for h in found.values()]
    assert sizes == [256, 256, 256, 32 * 4, 32 * 4, 256, 256, 256, 4]  # stem to head
    assert "fc" not in features(net, images(1), 256, 1, logits=False)


@torch.no_grad()
def test_features_of_a_vit_are_its_outputs():
    net = drawn("vit_tiny").eval()
    found = features(net, images(), 48, 2)
    names = [f"blocks.{i}.{k}" for i in range(3) for k in ("ln_1", "self_attention", "mlp")]
    assert {*found} == {*names, "fc"}
    tokens = net.stem(images())
    given = net.blocks[0].ln_1(tokens)
    assert torch.allclose(found["blocks.0.ln_1"], pooled(given, 48), atol=1e-5)
    attended = net.blocks[0].self_attention(given, given, given, need_weights=False)[0]
    assert torch.allclose(found["blocks.0.self_attention"], pooled(attended, 48), atol=1e-5)
    mlp = net.blocks[0](tokens) - tokens - attended
    assert torch.allclose(found["blocks.0.mlp"], pooled(mlp, 48), atol=1e-5)


def test_layers_have_norm_1_of_what_is_chosen_of_them():
    found = {
        "a": torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]),
        "b": torch.tensor([[2.0], [-5.0]]),
    }
    assert torch.allclose(joined(found), torch.tensor([[0.6, 0.8, 0, 1], [0, 0, 0, -1]]))
    chosen = joined(found, torch.tensor([3, 1]))  # the layers' order, not that of the choice
    assert torch.equal(chosen, torch.tensor([[1.0, 1.0], [0.0, -1.0]]))
    assert torch.equal(joined(found, torch.tensor([3])), torch.tensor([[1.0], [-1.0]]))
    order = joined(found, torch.tensor([1, 0]))
    assert torch.allclose(order[0], torch.tensor([0.8, 0.6]))


def test_the_group_lasso_and_its_gradient():
    weight = torch.randn(6, 3, generator=generator(), dtype=torch.float64)
    weight[2] = 0
    weight.requires_grad_()
    group_lasso(weight).backward()
    norms = weight.detach().square().sum(1).sqrt()
    assert group_lasso(weight).item() == pytest.approx(norms.sum().item())
    expected = torch.where(norms[:, None] > 0, weight.detach() / norms[:, None], 0.0)
    assert torch.allclose(weight.grad, expected)


def test_selection_by_brute_force():
    weight = torch.tensor([[1.0, 0.0], [2.0, -2.0], [0.0, 1.0], [0.0, 0.0], [-3.0, 0.0]])
    scores = [1, 8, 1, 0, 9]
    order = sorted(range(5), key=lambda j: (-scores[j], j))
    for fraction, n in ((0.01, 1), (0.4, 2), (0.6, 3), (0.99, 4), (1.0, 5)):
        assert select(weight, fraction).tolist() == order[:n]


def test_a_head_without_penalty_finds_the_optimum_of_a_regression():
    # Two features that repeat: the optimum has the classes' frequencies, log odds in closed form.
    h = F.one_hot(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 2).float()
    labels = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])
    weight, bias = fit_head(h, labels, 2, 0.0, 0.1, 400, generator())
    logits = torch.addmm(bias, h, weight)
    odds = torch.log(torch.tensor(3.0))
    assert torch.allclose(logits[0, 0] - logits[0, 1], odds, atol=1e-3)
    assert torch.allclose(logits[7, 1] - logits[7, 0], odds, atol=1e-3)


@pytest.mark.slow
def test_a_strong_penalty_takes_all_weights_and_leaves_the_bias():
    h = torch.randn(40, 3, generator=generator())
    labels = (torch.arange(40) % 4 == 0).long()
    weight, bias = fit_head(h, labels, 2, 10.0, 0.05, 600, generator())
    assert weight.abs().max() < 0.01
    assert torch.allclose(bias.softmax(0), torch.tensor([0.75, 0.25]), atol=0.01)


def test_steps_are_those_of_adam_with_a_cosine_written_out():
    h = torch.randn(9, 4, generator=generator(), dtype=torch.float64)
    labels = torch.arange(9) % 3
    lasso, lr, steps = 0.01, 0.1, 7
    weight, _ = fit_head(h, labels, 3, lasso, lr, 0, generator(1))
    w = torch.cat([weight, torch.zeros(1, 3, dtype=torch.float64)])  # the bias is the last row
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    ones = torch.cat([h, torch.ones(9, 1, dtype=torch.float64)], 1)
    for t in range(steps):
        wrong = (ones @ w).softmax(1) - F.one_hot(labels, 3)
        grad = ones.T @ wrong / 9
        grad[:4] += lasso * w[:4] / w[:4].norm(dim=1, keepdim=True)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        rate = lr / 2 * (1 + math.cos(math.pi * t / steps))
        w = w - rate * m_hat / (v_hat.sqrt() + 1e-8)
    weight, bias = fit_head(h, labels, 3, lasso, lr, steps, generator(1))
    assert torch.allclose(weight, w[:4], atol=1e-9)
    assert torch.allclose(bias, w[4], atol=1e-9)


def test_a_head_is_the_generator_s_and_sees_every_image():
    h, labels = torch.eye(300), torch.arange(300) % 3
    one = fit_head(h, labels, 3, 0.0, 0.1, 3, generator(1))
    for a, b in zip(one, fit_head(h, labels, 3, 0.0, 0.1, 3, generator(1)), strict=True):
        assert torch.equal(a, b)
    other = fit_head(h, labels, 3, 0.0, 0.1, 3, generator(2))
    assert not torch.equal(one[0], other[0])
    start, _ = fit_head(h, labels, 3, 0.0, 0.1, 0, generator(1))
    assert start.abs().max() <= (6 / 303) ** 0.5
    assert ((one[0] - start).abs().amax(1) > 0).all()  # three steps are one pass


class Forgetful(nn.Module):
    """A block whose convolution knows the sign of the image, which its output has not."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.dirac_(self.conv1.weight)

    def forward(self, x):
        return self.conv1(x).abs()


@pytest.mark.slow
def test_a_feature_in_the_middle_decides_where_the_last_ones_cannot():
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = networks.Blocks(
        nn.Sequential(nn.Identity()), [Forgetful(), Forgetful()], tail, nn.Linear(2, 2)
    )
    x = torch.randn(200, 2, 1, 1, generator=generator())
    labels = (x[:, 1, 0, 0] > 0).long()
    with torch.no_grad():
        last = net.features(x)

    def accuracy(h, lasso=0.0):
        weight, bias = fit_head(h, labels, 2, lasso, 0.05, 300, generator())
        return float((torch.addmm(bias, h, weight).argmax(1) == labels).float().mean()), weight

    assert accuracy(last)[0] < 0.7
    found = features(net, x, 100, 64, logits=False)
    _, weight = accuracy(joined(found), 0.003)
    chosen = select(weight, 0.3)  # two of eight
    starts = dict(zip(found, itertools.accumulate([0, 2, 2, 2]), strict=True))
    signed = {starts["stem"] + 1, starts["blocks.0.conv1"] + 1}
    assert {*chosen.tolist()} == signed
    assert accuracy(joined(found, chosen))[0] > 0.97
