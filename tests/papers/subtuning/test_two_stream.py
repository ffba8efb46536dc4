"""Two networks as one that shares what is equal."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, Bottleneck

from retable.nets.resnet import PaddedShortcut
from retable.papers.subtuning import networks
from retable.papers.subtuning.two_stream import (
    TwoStream,
    added_parameters,
    block_flops,
    merged,
)
from retable.util.errors import UserError


def disturbed(net, seed):
    """Weights and statistics that no network begins with, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, w in net.state_dict().items():
            if w.is_floating_point():
                noise = torch.rand(w.shape, generator=generator)
                w.copy_(noise + 0.5 if name.endswith("running_var") else w + 0.2 * (noise - 0.5))
    return net.eval()


def pair(name, tuned, seed=0):
    """An old network, and a new one of other tuned blocks and another head."""
    torch.manual_seed(seed)
    old = disturbed(networks.network(name, 4), 1)
    new = copy.deepcopy(old)
    new.fc = nn.Linear(old.fc.in_features, 7)
    for i in tuned:
        disturbed(new.blocks[i], 2 + i)
    return old, new


def images(n=3, side=32):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def projection(n_in, n_out, stride):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))


BLOCKS = {
    "basic": lambda: BasicBlock(6, 6),
    "basic, padded": lambda: BasicBlock(6, 12, 2, PaddedShortcut(6, 12, 2)),
    "basic, padded by an odd number": lambda: BasicBlock(6, 9, 2, PaddedShortcut(6, 9, 2)),
    "basic, projected": lambda: BasicBlock(6, 12, 2, projection(6, 12, 2)),
    "bottleneck": lambda: Bottleneck(12, 3),
    "bottleneck, projected": lambda: Bottleneck(6, 3, 1, projection(6, 12, 1)),
    "bottleneck, strided": lambda: Bottleneck(6, 4, 2, projection(6, 16, 2)),
    "bottleneck, grouped": lambda: Bottleneck(12, 6, 1, projection(12, 24, 1), 2, 64),
    "convolution with a bias": lambda: nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU()),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("side", [7, 8])
def test_a_merged_block_is_both_blocks(kind, side):
    old, new = disturbed(BLOCKS[kind](), 1), disturbed(BLOCKS[kind](), 2)
    first = next(m for m in old.modules() if isinstance(m, nn.Conv2d)).in_channels
    x, y = torch.randn(2, 5, first, side, side, generator=torch.Generator().manual_seed(0))
    both = merged(old, new)
    found = both(torch.cat([x, y], 1))
    assert torch.allclose(found, torch.cat([old(x), new(y)], 1), atol=1e-5)
    assert n_parameters(both) == 2 * n_parameters(old)
    assert not torch.allclose(old(x), new(x), atol=1e-2)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "tuned"),
    [
        *[("resnet20", [i]) for i in range(9)],
        ("resnet20", [2, 3]),  # where the shape changes
        ("resnet20", [0, 5]),  # with blocks between that are not tuned
        ("resnet20", [6, 1, 3]),
        ("resnet20", [*range(9)]),
        ("resnet20", []),
        ("resnet18", [2]),  # a projection
        ("resnet50", [13, 15]),
    ],
)
def test_the_outputs_are_those_of_both_networks(name, tuned):
    old, new = pair(name, tuned)
    net = TwoStream(old, new, tuned)
    one, other = net(images())
    for found, wanted in ((one, old(images())), (other, new(images()))):
        # A logit near 0 is a sum of ones that are not.
        assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-5)
    if tuned:
        assert not torch.allclose(new.features(images()), old.features(images()), atol=1e-2)
    assert not net.training
    # What is between the first and the last tuned block is there twice.
    doubled = range(min(tuned), max(tuned) + 1) if tuned else ()
    more = sum(n_parameters(old.blocks[i]) for i in doubled)
    assert n_parameters(net) == n_parameters(old) + more + n_parameters(new.fc)
    if [*doubled] == sorted(tuned):
        assert n_parameters(net) == n_parameters(old) + added_parameters(new, tuned)


def test_it_has_copies():
    old, new = pair("resnet8", [1])
    before = copy.deepcopy(new.state_dict())
    net = TwoStream(old, new, [1])
    for w in net.state_dict().values():
        w.zero_()
    assert all(torch.equal(w, before[k]) for k, w in new.state_dict().items())
    assert old.fc.weight.abs().max() > 0
    assert all(p.requires_grad for p in [*old.parameters(), *new.parameters()])


def test_parameters_of_the_blocks_of_resnet_50_and_20():
    def sizes(name):
        net = networks.network(name, 10)
        return n_parameters(net.stem), [n_parameters(b) for b in net.blocks], net

    stem, blocks, net = sizes("resnet50")
    assert stem == 9536
    assert blocks == [
        *[75_008, 70_400, 70_400],
        *[379_392, 280_064, 280_064, 280_064],
        *[1_512_448, *5 * [1_117_184]],
        *[6_039_552, 4_462_592, 4_462_592],
    ]
    assert sum(blocks) == 23_498_496
    assert added_parameters(net, [1, 13]) == 70_400 + 6_039_552 + 20_490
    stem, blocks, net = sizes("resnet20")
    assert (stem, blocks) == (464, 3 * [4672] + [13_952, 18_560, 18_560] + [55_552, 73_984, 73_984])
    assert n_parameters(net) == 269_722


def counted(net, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    return counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("resnet20", 32), ("resnet50", 64)])
def test_operations_add_up_in_both_networks_and_in_the_merged_one(name, side):
    tuned = [2, 3]
    old, new = pair(name, tuned)
    x = images(1, side)
    found = block_flops(new, x)
    assert len(found.blocks) == len(new)
    assert found.total == counted(new, x)
    more = sum(found.blocks[2:]) + found.head
    assert found.added(tuned) == found.added([3, 2]) == more
    whole = block_flops(old, x).total
    assert counted(TwoStream(old, new, tuned), x) == whole + more
    assert found.added([]) == found.head == 2 * 7 * new.fc.in_features


def test_operations_in_closed_form():
    net = networks.network("resnet20", 10).train()
    found = block_flops(net, images(2))
    assert net.training
    area = 32 * 32
    assert found.stem == 2 * 2 * area * 9 * 3 * 16
    assert found.blocks[0] == 2 * 2 * area * 2 * 9 * 16 * 16
    assert found.blocks[3] == 2 * 2 * area // 4 * 9 * (16 * 32 + 32 * 32)  # no product in option A
    assert found.head == 2 * 2 * 64 * 10
    vit = block_flops(networks.network("vit_tiny", 10), images(2))
    t, d = 17, 24
    projections, mlp, attention = 4 * d * d * t, 2 * d * 48 * t, 2 * t * t * d
    assert vit.blocks == [2 * 2 * (projections + mlp + attention)] * 3
    assert vit.stem == 2 * 2 * 16 * 3 * 64 * d


def test_what_cannot_be_two_streams_is_refused():
    vit = networks.network("vit_tiny", 4)
    with pytest.raises(UserError, match="not the EncoderBlock of a ViT"):
        TwoStream(vit, vit, [1])
    old, new = pair("resnet8", [1])
    with pytest.raises(UserError, match="no block 3; they are 0 to 2"):
        TwoStream(old, new, [1, 3])
    with pytest.raises(UserError, match=r"'blocks\.1\..*' differs, outside of the blocks \[2\]"):
        TwoStream(old, new, [2])
    with pytest.raises(UserError, match="networks of 3 and 6 blocks"):
        TwoStream(old, networks.Blocks(new.stem, 2 * [*new.blocks], new.tail, new.fc), [1])
    new.blocks[1] = Bottleneck(16, 8, 2, PaddedShortcut(16, 32, 2))
    with pytest.raises(UserError, match="no common layer of a BasicBlock and a Bottleneck"):
        TwoStream(old, new, [1])
    with pytest.raises(UserError, match=r"\(6, 6, 3, 3\) and \(4, 6, 3, 3\) cannot be merged"):
        merged(nn.Conv2d(6, 6, 3), nn.Conv2d(6, 4, 3))
    with pytest.raises(UserError, match="no common layer of a Linear"):
        merged(nn.Linear(2, 2), nn.Linear(2, 2))
