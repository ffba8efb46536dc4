"""Wide residual networks: sizes as printed."""

from __future__ import annotations

import pytest
import torch

from retable.nets.wide_resnet import WideResNet
from support.nets import configured, conv, every_gradient, same_draw, size

NAME = "wide_resnet.WideResNet"


# In millions from Tables 4 and 5 of the paper; WRN-34-10 is that of the literature on robustness.
@pytest.mark.parametrize(
    ("depth", "widen", "exact", "printed"),
    [
        (28, 10, 36_479_194, 36.5),
        (40, 4, 8_949_210, 8.9),
        (16, 8, 10_961_370, 11.0),
        (34, 10, 46_160_474, None),
    ],
)
def test_sizes(depth, widen, exact, printed):
    n, before, total = (depth - 4) // 6, 16, conv(3, 16)
    for width in (16 * widen, 32 * widen, 64 * widen):
        total += conv(before, width) + (2 * n - 1) * conv(width, width) + conv(before, width, 1)
        total += 2 * (before + (2 * n - 1) * width)
        before = width
    total += 2 * before + before * 10 + 10
    assert size(NAME, depth=depth, widen=widen) == total == exact
    assert printed is None or round(exact / 1e6, 1) == printed


def test_shapes_gradients_and_seeds():
    options = {"depth": 10, "widen": 1, "n_classes": 5, "in_channels": 1, "dropout": 0.3}
    net = configured(NAME, **options)
    x = torch.randn(3, 1, 32, 32)
    assert net.features(x).shape == (3, 64)
    assert net.features(x).min() >= 0
    assert net(x).shape == (3, 5)
    every_gradient(net, x)
    same_draw(NAME, **options)
    assert net.fc.bias.count_nonzero() == 0


def test_dropout_lies_within_the_blocks():
    net = WideResNet(10, 1, dropout=0.5)
    x = torch.randn(2, 3, 8, 8)
    assert not net(x).equal(net(x))
    net.eval()
    assert net(x).equal(net(x))
    assert net.layer1[0].shortcut is None  # 16 channels to 16
    assert net.layer2[0].shortcut is not None


def test_a_depth_that_is_none():
    with pytest.raises(ValueError, match="6n \\+ 4"):
        WideResNet(18, 1)
