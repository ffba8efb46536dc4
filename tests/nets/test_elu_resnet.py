"""The ResNets of signed supermasks: sizes as printed, blocks, norms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.elu_resnet import EluBlock, EluResNet, FixedNorm
from support.nets import configured, conv, every_gradient, same_draw, size

NAME = "elu_resnet.EluResNet"


# In millions from the table of kosnil/signed_supermasks, which counts the norms too (0.84 M).
@pytest.mark.parametrize(
    ("depth", "width", "n_classes", "printed"),
    [
        (20, 16, 10, "0.25"),
        (20, 32, 10, "1.0"),
        (20, 48, 10, "2.2"),
        (56, 16, 100, "0.84"),
        (110, 16, 100, "1.7"),
    ],
)
def test_sizes(depth, width, n_classes, printed):
    n, before, total = (depth - 2) // 6, width, conv(3, width)
    for out in (width, 2 * width, 4 * width):
        total += 2 * conv(before, out, 1) + conv(out, out) + 2 * (n - 1) * conv(out, out)
        before = out
    total += before * n_classes
    options = {"depth": depth, "width": width, "n_classes": n_classes}
    assert size(NAME, norm="fixed", **options) == total
    assert (depth, width) != (20, 16) or total == 248_624  # weights that are masked
    total += 2 * width + 2 * 7 * width * (2 * n + 1)  # norms
    assert size(NAME, **options) == total
    assert f"{total / 1e6:.{len(printed) - 2}f}" == printed


def test_the_blocks():
    x = torch.randn(2, 4, 6, 6)
    block = EluBlock(4, 4, 1, first=False, norm="fixed")
    hidden = F.elu(block.conv1(x) / 1.001**0.5)
    assert block.conv1.kernel_size == (3, 3)
    torch.testing.assert_close(block(x), F.elu(block.conv2(hidden) / 1.001**0.5 + x))
    first = EluBlock(4, 8, 2, first=True, norm="batch")
    assert first.conv1.kernel_size == (1, 1)

    def norm(y: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(y, None, None, training=True, eps=1e-3)

    hidden = F.elu(norm(F.conv2d(x, first.conv1.weight, stride=2)))
    shortcut = norm(F.conv2d(x, first.shortcut[0].weight, stride=2))
    expected = F.elu(F.elu(norm(first.conv2(hidden))) + shortcut)
    assert expected.shape == (2, 8, 3, 3)
    torch.testing.assert_close(first(x), expected)


def test_the_stem_and_the_head():
    net = EluResNet(8, width=4)
    assert net.bn1.momentum == 0.01  # Keras's 0.99
    x = torch.randn(2, 3, 16, 16)
    stem = F.max_pool2d(F.elu(net.bn1(net.conv1(x))), 3, stride=1, padding=1)
    assert stem.shape == (2, 4, 16, 16)
    features = net.layer3(net.layer2(net.layer1(stem))).flatten(2).mean(2)
    torch.testing.assert_close(net(x), features @ net.fc.weight.T)


def test_a_norm_that_is_not_trained_is_that_of_evaluation():
    norm = nn.BatchNorm2d(3, eps=1e-3).eval()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(FixedNorm()(x), norm(x))


@pytest.mark.parametrize("norm", ["batch", "fixed"])
def test_shapes_gradients_and_seeds(norm):
    options = {"depth": 8, "n_classes": 5, "in_channels": 1, "width": 4, "norm": norm}
    net = configured(NAME, **options)
    x = torch.randn(3, 1, 32, 32)
    assert net.features(x).shape == (3, 16)
    assert net(x).shape == (3, 5)
    every_gradient(net, x)
    same_draw(NAME, **options)
    assert net.fc.weight.abs().max() <= (4.5 / 16) ** 0.5


def test_a_depth_that_is_none():
    with pytest.raises(ValueError, match="6n \\+ 2"):
        EluResNet(18)
