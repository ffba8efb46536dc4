"""The perceptron for tables."""

from __future__ import annotations

import pytest
import torch

from retable.nets.table_mlp import TableMLP


@pytest.mark.parametrize(
    ("n_features", "n_classes", "width", "depth"), [(27, 100, 512, 8), (3, 2, 5, 1)]
)
def test_sizes(n_features, n_classes, width, depth):
    net = TableMLP(n_features, n_classes=n_classes, width=width, depth=depth)
    hidden = n_features * width + depth * width**2 + 2 * width * (1 + depth)
    assert sum(p.numel() for p in net.parameters()) == hidden + (width + 1) * n_classes


@pytest.mark.parametrize("skips", [False, True])
def test_equals_the_network_put_together_by_hand(skips):
    torch.manual_seed(0)
    net = TableMLP(4, n_classes=3, width=6, depth=3, skips=skips).eval()
    for norm in net.norm:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.uniform_(-1, 1)
    x = torch.randn(5, 4)
    h = x
    for i in range(4):
        z, norm = h @ net.linear[i].weight.T, net.norm[i]
        z = (z - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
        if skips and i in (1, 2):  # neither the first nor the last
            z = z + h
        h = z.clamp(min=0)
    assert torch.allclose(net.features(x), h, atol=1e-5)
    assert torch.allclose(net(x), h @ net.fc.weight.T + net.fc.bias, atol=1e-5)
