"""MTAN: size, and what the masks do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retable.nets.mtan import MTAN
from retable.nets.segnet import FILTERS, SegNet
from support.nets import conv, size

NAME = "mtan.MTAN"
SMALL = (4, 6, 8, 8, 8)


def test_sizes():
    """By the paper's Table 2 it has 1.77 times the parameters of a single-task network."""
    below = [FILTERS[0], *FILTERS[:-1]]
    deeper = [*FILTERS[1:], FILTERS[-1]]

    def mask(seen: int, n: int) -> int:
        return conv(seen, n, 1, bias=1) + conv(n, n, 1, bias=1) + 4 * n

    masks = sum(mask(2 * n if i else n, n) for i, n in enumerate(FILTERS))
    masks += sum(mask(n + b, b) for n, b in zip(FILTERS, below, strict=True))
    between = [*zip(FILTERS, deeper, strict=True), *zip(FILTERS, below, strict=True)]
    convolutions = sum(conv(a, b, bias=1) + 2 * b for a, b in between)
    found = size(NAME)
    assert found == size("segnet.SegNet") + 3 * masks + convolutions == 44_229_073
    assert round(found / size("segnet.SegNet", tasks=["segmentation"]), 2) == 1.77


def set_masks(net: MTAN, level: int, value: float) -> None:
    """Makes every task's mask of a decoder level all one (value > 0) or all zero."""
    for attention in net.attention.values():
        norm = attention.decoder[level][4]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)
        nn.init.constant_(norm.bias, value)


def test_masks_of_ones_give_the_shared_network():
    net, shared = MTAN(filters=SMALL), SegNet(filters=SMALL)
    missing = net.load_state_dict(shared.state_dict(), strict=False)
    assert not missing.unexpected_keys
    x = torch.randn(2, 3, 64, 64)
    expected = shared(x)
    assert not net(x)["depth"].equal(expected["depth"])
    set_masks(net, 0, 1000.0)
    for task, found in net(x).items():
        torch.testing.assert_close(found, expected[task])


def test_masks_of_zeros_leave_nothing():
    net = MTAN(filters=SMALL)
    set_masks(net, 0, -1000.0)
    maps = net(torch.randn(1, 3, 64, 64))
    assert maps["depth"].count_nonzero() == 0  # biases start at zero
    torch.testing.assert_close(maps["segmentation"].exp(), torch.full((1, 13, 64, 64), 1 / 13))


def test_equals_the_network_put_together_by_hand():
    """Two levels, the steps in the words of the paper's Figure 2."""
    net = MTAN(("depth",), filters=(4, 6))
    x = torch.randn(2, 3, 16, 16)
    (p1, u1), (p2, u2) = net.levels(x)[0]  # first and last shared convolutions
    (d1, v1), (d2, v2) = net.levels(x)[1]  # unpooled and last shared features
    pool = nn.MaxPool2d(2)
    enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    masks = net.attention["depth"]
    a1 = pool(net.inward[0](masks.encoder[0](p1) * u1))
    a2 = pool(net.inward[1](masks.encoder[1](torch.cat([p2, a1], 1)) * u2))
    b2 = masks.decoder[1](torch.cat([d2, net.outward[1](enlarge(a2))], 1)) * v2
    b1 = masks.decoder[0](torch.cat([d1, net.outward[0](enlarge(b2))], 1)) * v1
    torch.testing.assert_close(net(x)["depth"], net.pred.heads["depth"](b1))


@pytest.mark.parametrize("level", range(5))
def test_each_level_takes_part(level):
    """Every mask changes the output, and those of one task change no other task's."""
    net = MTAN(("segmentation", "depth"), filters=SMALL)
    x = torch.randn(2, 3, 64, 64)
    before = net(x)
    for side in ("encoder", "decoder"):
        convolution = net.attention["depth"].get_submodule(side)[level][0]
        nn.init.normal_(convolution.weight)
        after = net(x)
        assert after["segmentation"].equal(before["segmentation"])
        assert not after["depth"].equal(before["depth"])
        before = after
