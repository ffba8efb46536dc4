"""SegNet: sizes, unpooling, the outputs of each task."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from retable.nets.segnet import FILTERS, SegNet, unpool
from support.nets import configured, conv, every_gradient, same_draw, size

NAME = "segnet.SegNet"
SMALL = (4, 6, 8, 8, 8)


def block(before: int, after: int) -> int:
    return conv(before, after, bias=1) + 2 * after


def shared() -> int:
    """The encoder and the decoder: VGG-16's thirteen convolutions with norm, there and back."""
    encoder, decoder, above = 0, 0, 3
    for level, width in enumerate(FILTERS):
        below = FILTERS[max(level - 1, 0)]
        repeats = 1 if level < 2 else 2
        encoder += block(above, width) + repeats * block(width, width)
        decoder += block(width, below) + repeats * block(below, below)
        above = width
    assert encoder == 14_714_688 + 2 * 4224  # VGG-16 without its top, and norms
    return encoder + decoder


def head(outputs: int) -> int:
    return conv(64, 64, bias=1) + conv(64, outputs, 1, bias=1)


def test_sizes():
    split = shared() + head(13) + head(1) + head(3)
    assert size(NAME) == split == 25_055_185
    assert size(NAME, tasks=["depth"]) == shared() + head(1)
    assert size(NAME, n_classes=7) == split - 6 * 65  # Cityscapes


def test_unpooling_is_torchs():
    x = torch.randn(2, 3, 6, 8, requires_grad=True)
    pooled, places = F.max_pool2d(x, 2, return_indices=True)
    found = unpool(pooled, places)
    assert found.equal(F.max_unpool2d(pooled, places, (2, 2)))
    assert (found != 0).sum() == 2 * 3 * 12
    assert found[found != 0].equal(x[found != 0])


def test_the_outputs_of_tasks():
    torch.manual_seed(0)  # of some networks all units of a pixel are dead, and it has no normal
    net = configured(NAME, filters=list(SMALL), n_classes=5, in_channels=2)
    maps = net(torch.randn(2, 2, 32, 64))
    assert {task: tuple(m.shape) for task, m in maps.items()} == {
        "segmentation": (2, 5, 32, 64),
        "depth": (2, 1, 32, 64),
        "normals": (2, 3, 32, 64),
    }
    torch.testing.assert_close(maps["segmentation"].exp().sum(1), torch.ones(2, 32, 64))
    torch.testing.assert_close(maps["normals"].norm(dim=1), torch.ones(2, 32, 64))
    assert maps["depth"].min() < 0


def test_the_order_of_tasks_and_what_is_theirs():
    net = SegNet(("normals", "depth"), filters=SMALL)
    assert list(net(torch.randn(1, 3, 64, 64))) == ["normals", "depth"]
    own = {name.split(".")[2] for name, _ in net.named_parameters() if "pred" in name}
    assert own == {"normals", "depth"}


def test_a_level_passes_on_its_first_and_its_last_convolution():
    """The whole network, put together from its parts, with torch's unpooling."""
    net = SegNet(("depth",), filters=(4, 6, 8))
    x = torch.randn(2, 3, 16, 16)
    expected, places = x, []
    for level in net.encoder:
        expected, where = F.max_pool2d(level.rest(level.first(expected)), 2, return_indices=True)
        places.append(where)
    for i in (2, 1, 0):
        level = net.decoder[i]
        unpooled = F.max_unpool2d(expected, places[i], (2, 2))
        expected = level.rest(level.first(unpooled))
    assert net(x)["depth"].equal(net.pred.heads["depth"](expected))
    assert [len(level.rest) for level in net.encoder] == [1, 1, 2]


@pytest.mark.parametrize("name", [NAME, "mtan.MTAN"])
def test_gradients_and_seeds_where_algorithms_have_to_be_deterministic(name):
    torch.use_deterministic_algorithms(True)
    try:
        net = configured(name, filters=list(SMALL), tasks=["segmentation", "normals"])
        every_gradient(net, torch.randn(2, 3, 64, 64))
    finally:
        torch.use_deterministic_algorithms(False)
    same_draw(name, filters=list(SMALL))
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.endswith("bias"):
            assert parameter.count_nonzero() == 0
