"""Networks of torchvision in two parts: the same weights, the same logits."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision.models
from torch import nn

from retable.nets.torchvision_net import TorchvisionNet


def basic(blocks, n_classes):
    """Weights of a network of basic blocks: stem, blocks, projections, dense layer."""
    total, before = 3 * 64 * 49 + 2 * 64, 64
    for stage, n in enumerate(blocks):
        width = 64 * 2**stage
        if before != width:
            total += before * width + 2 * width
        total += 9 * before * width + 9 * width**2 * (2 * n - 1) + 4 * width * n
        before = width
    return total + (512 + 1) * n_classes


def bottleneck(n_classes, blocks=(3, 4, 6, 3), groups=32):
    """The same of ResNeXt-50 32x4d: 1x1, grouped 3x3 of twice the width, 1x1."""
    total, before = 3 * 64 * 49 + 2 * 64, 64
    for stage, n in enumerate(blocks):
        inner, out = 128 * 2**stage, 256 * 2**stage
        total += before * out + 2 * out
        for block in range(n):
            given = before if block == 0 else out
            total += given * inner + 9 * inner**2 // groups + inner * out + 4 * inner + 2 * out
        before = out
    return total + (2048 + 1) * n_classes


@pytest.mark.parametrize(
    ("name", "wanted", "d"),
    [
        ("resnet18", basic((2, 2, 2, 2), 7), 512),
        ("resnet34", basic((3, 4, 6, 3), 100), 512),
        ("resnext50_32x4d", bottleneck(1000), 2048),
    ],
)
def test_sizes(name, wanted, d):
    n_classes = {"resnet18": 7, "resnet34": 100}.get(name, 1000)
    with torch.device("meta"):
        net = TorchvisionNet(name, n_classes=n_classes)
        original = getattr(torchvision.models, name)(num_classes=n_classes)
    size = sum(p.numel() for p in net.parameters())
    assert size == wanted == sum(p.numel() for p in original.parameters())
    assert (net.fc.in_features, net.fc.out_features) == (d, n_classes)


def test_it_computes_what_torchvision_s_does():
    torch.manual_seed(0)
    net = TorchvisionNet("resnet18", n_classes=5).eval()
    torch.manual_seed(0)
    original = torchvision.models.resnet18(num_classes=5).eval()
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(net(x), original(x))
    assert net.features(x).shape == (2, 512)
    assert (net.features(x) >= 0).all()
    assert {name for name, _ in net.named_parameters() if name.startswith("fc.")} == {
        "fc.weight",
        "fc.bias",
    }


def test_the_stem_alone_can_start_otherwise():
    """torch's own draw is uniform with bound 1 / sqrt(fan in); torchvision's is normal."""
    net = TorchvisionNet("resnet18", n_classes=5, stem_init="torch")
    bound = 1 / math.sqrt(3 * 49)
    stem = net.extractor.conv1.weight
    assert 0.95 * bound < stem.abs().max() <= bound
    inner = net.extractor.layer1[0].conv1
    assert isinstance(inner, nn.Conv2d)
    assert inner.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.03)
