"""Pre-activation ResNets: sizes, the block, the variants, scale invariance."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.preact_resnet import PreActBlock, PreActResNet
from support.nets import configured, conv, every_gradient, same_draw, size

NAME = "preact_resnet.PreActResNet"


def convolutions(blocks):
    total, before = conv(3, 64), 64
    for i, n in enumerate(blocks):
        width = 64 * 2**i
        total += conv(before, width) + (2 * n - 1) * conv(width, width)
        total += conv(before, width, 1) if i else 0
        before = width
    return total


def norms(blocks):
    """A norm before each convolution: the first of a stage has the width of the one before."""
    widths = [64 * 2**i for i in range(4)]
    return sum(
        2 * (before + (2 * n - 1) * width)
        for before, width, n in zip([64, *widths], widths, blocks, strict=False)
    )


@pytest.mark.parametrize(
    ("depth", "blocks", "exact"),
    [(18, (2, 2, 2, 2), 11_171_146), (34, (3, 4, 6, 3), 21_279_306)],
)
def test_sizes(depth, blocks, exact):
    """Of the plainest form; a norm of the features has 1,024 more, one of the image 6."""
    parts = convolutions(blocks) + norms(blocks) + 5130
    assert size(NAME, depth=depth, final_norm=False) == parts == exact
    assert size(NAME, depth=depth) == parts + 1024
    assert size(NAME, depth=depth, input_norm=True) == parts + 1024 + 6


def test_size_of_the_scale_invariant_form():
    """No norm has parameters, every convolution has a bias."""
    biases = 64 + sum(64 * 2**i * (4 + (i > 0)) for i in range(4))
    found = size(NAME, depth=18, input_norm=True, scale_invariant=True)
    assert found == convolutions((2, 2, 2, 2)) + biases + 5130


def test_the_block():
    x = torch.randn(2, 4, 6, 6)
    same, changed = PreActBlock(4, 4), PreActBlock(4, 8, 2)
    nn.init.zeros_(same.conv2.weight)  # leaves the shortcut alone
    nn.init.zeros_(changed.conv2.weight)
    assert same(x).equal(x)
    active = F.relu(F.batch_norm(x, None, None, training=True))
    expected = F.conv2d(active, changed.shortcut.weight, stride=2)
    torch.testing.assert_close(changed(x), expected)
    block = PreActBlock(4, 8, 2)
    first = F.conv2d(active, block.conv1.weight, stride=2, padding=1)
    second = F.relu(F.batch_norm(first, None, None, training=True))
    shortcut = F.conv2d(active, block.shortcut.weight, stride=2)
    expected = F.conv2d(second, block.conv2.weight, padding=1) + shortcut
    torch.testing.assert_close(block(x), expected)


def test_scaling_all_weights_changes_nothing():
    net = PreActResNet(18, width=4, input_norm=True, scale_invariant=True).double()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight is None
            layer.eps = 1e-30  # torch wants more than nothing
    x = torch.randn(8, 3, 32, 32).double()
    trained = [p for p in net.parameters() if p.requires_grad]
    assert len(list(net.parameters())) - len(trained) == 2  # fc
    before = net(x)
    before.square().sum().backward()
    radial = sum((p * p.grad).sum() for p in trained)
    length = sum(p.grad.square().sum() for p in trained).sqrt()
    assert abs(radial) < 1e-9 * length * sum(p.square().sum() for p in trained).sqrt()
    with torch.no_grad():
        for p in trained:
            p.mul_(2.0)
    torch.testing.assert_close(net(x), before)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"final_norm": False, "init": "torch"},
        {"input_norm": True},
        {"input_norm": True, "scale_invariant": True},
    ],
)
def test_shapes_gradients_and_seeds(options):
    options = {"depth": 18, "n_classes": 5, "width": 4, **options}
    net = configured(NAME, **options)
    x = torch.randn(3, 3, 32, 32)
    features = net.features(x)
    assert features.shape == (3, 32)
    assert (features.min() < 0) == (not options.get("final_norm", True))
    assert net(x).shape == (3, 5)
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 5)  # Tiny ImageNet
    every_gradient(net, x)
    same_draw(NAME, **options)
