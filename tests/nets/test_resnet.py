"""ResNets: sizes as printed, option A, and torchvision's networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from retable.nets.resnet import CifarResNet, PaddedShortcut, ResNet
from support.nets import configured, conv, count, every_gradient, same_draw, size


# In millions from Table 6 of the paper, where 26 is not; 269,722 is that of the public weights of
# akamaster/pytorch_resnet_cifar10.
@pytest.mark.parametrize(
    ("depth", "exact", "printed"),
    [
        (20, 269_722, 0.27),
        (26, 366_938, None),
        (32, 464_154, 0.46),
        (44, 658_586, 0.66),
        (56, 853_018, 0.85),
    ],
)
def test_sizes_of_6n_plus_2(depth, exact, printed):
    n = (depth - 2) // 6
    parts = 3 * 144 + 2 * 16 + 64 * 10 + 10  # stem and head
    for before, width in ((16, 16), (16, 32), (32, 64)):
        parts += conv(before, width) + (2 * n - 1) * conv(width, width) + 2 * n * 2 * width
    assert size("resnet.CifarResNet", depth=depth) == parts == exact
    assert printed is None or round(exact / 1e6, 2) == printed


def test_sizes_of_the_blocks_of_resnet_20():
    net = CifarResNet(20)
    blocks = [count(b) for i in (1, 2, 3) for b in net.get_submodule(f"layer{i}").children()]
    assert blocks == [4672] * 3 + [13_952] + [18_560] * 2 + [55_552] + [73_984] * 2
    assert count(net.conv1) + count(net.bn1) == 464
    assert count(net.fc) == 650


def test_sizes_of_18_and_34():
    """torchvision prints 11,689,512 and 21,797,672 for 1000 classes and the 7 x 7 stem."""
    stem, head = conv(3, 64, 7) - conv(3, 64), 513 * 1000 - 513 * 10
    assert size("resnet.ResNet", depth=18) == 11_689_512 - stem - head == 11_173_962
    assert size("resnet.ResNet", depth=34) == 21_797_672 - stem - head == 21_282_122


def test_option_a():
    """Every second pixel; new channels are zero; it has no parameters."""
    x = torch.randn(2, 4, 5, 6)
    out = PaddedShortcut(4, 8, 2)(x)
    assert out.shape == (2, 8, 3, 3)
    assert out[:, 2:6].equal(x[:, :, ::2, ::2])
    assert out[:, :2].count_nonzero() == out[:, 6:].count_nonzero() == 0
    net = CifarResNet(8, width=4)
    block = net.get_submodule("layer2")[0]
    nn.init.zeros_(block.bn2.weight)  # leaves the shortcut alone
    assert block(x).equal(torch.relu(out))
    assert not any("downsample" in name for name in net.state_dict())


@pytest.mark.parametrize("depth", [18, 34])
def test_equals_torchvision_with_its_stem_replaced(depth):
    peer = getattr(models, f"resnet{depth}")(num_classes=7)
    peer.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    peer.maxpool = nn.Identity()
    with torch.device("meta"):
        net = ResNet(depth, n_classes=7)
    net.load_state_dict({k: v.clone() for k, v in peer.state_dict().items()}, assign=True)
    x = torch.randn(2, 3, 16, 16)
    for training in (True, False):
        torch.testing.assert_close(net.train(training)(x), peer.train(training)(x))


def test_initialisation_of_the_stem_and_of_the_rest():
    torch.manual_seed(0)
    net = configured("resnet.ResNet", depth=18, width=32, stem_init="torch")
    assert net.conv1.weight.abs().max() <= 27**-0.5
    deep = net.get_submodule("layer4")[1].conv1.weight
    assert deep.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert CifarResNet(8).fc.bias.count_nonzero() == 0


@pytest.mark.parametrize(
    "net",
    [
        ("resnet.CifarResNet", {"depth": 8, "n_classes": 3, "in_channels": 1, "width": 4}),
        ("resnet.ResNet", {"depth": 18, "n_classes": 3, "in_channels": 1, "width": 4}),
    ],
)
def test_shapes_gradients_and_seeds(net):
    name, arguments = net
    x = torch.randn(3, 1, 32, 32)
    built = configured(name, **arguments)
    features = built.features(x)
    assert features.shape == (3, 16 if arguments["depth"] == 8 else 32)
    assert features.min() >= 0
    assert built(x).shape == (3, 3)
    every_gradient(built, x)
    same_draw(name, **arguments)


def test_a_depth_that_is_none():
    with pytest.raises(ValueError, match="6n \\+ 2"):
        CifarResNet(18)
