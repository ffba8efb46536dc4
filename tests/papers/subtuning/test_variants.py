"""A block drawn anew, a head on two networks, and channels removed."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retable.papers.subtuning import networks
from retable.papers.subtuning.pruning import kept_channels, prune
from retable.papers.subtuning.two_stream import block_flops
from retable.papers.subtuning.variants import Siamese, reinitialise
from retable.util.errors import UserError


def drawn(name, seed=0, n_classes=4):
    torch.manual_seed(seed)
    return networks.network(name, n_classes)


def disturbed(net):
    """Weights and statistics that no network begins with."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, w in net.state_dict().items():
            if w.is_floating_point():
                noise = torch.rand(w.shape, generator=generator)
                w.copy_(noise + 0.5 if name.endswith("running_var") else w + 0.2 * (noise - 0.5))
    return net


def images(n=3, side=32):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "index"), [("resnet8", 1), ("resnet18", 2), ("vit_tiny", 1)])
def test_all_of_a_block_is_drawn_anew_and_nothing_else(name, index):
    net = disturbed(drawn(name))
    before = copy.deepcopy(net.state_dict())
    torch.manual_seed(5)
    reinitialise(net.blocks[index])
    for key, w in net.state_dict().items():
        inside = key.startswith(f"blocks.{index}.") and w.is_floating_point()
        assert torch.equal(w, before[key]) != inside, key
    block = net.blocks[index]
    if name == "vit_tiny":
        bound = (6 / (24 + 72)) ** 0.5
        assert 0.9 * bound < block.self_attention.in_proj_weight.abs().max() <= bound
        assert block.self_attention.in_proj_bias.abs().max() == 0
    else:
        assert torch.equal(block.bn1.running_var, torch.ones_like(block.bn1.running_var))
    torch.manual_seed(5)
    again = disturbed(drawn(name, seed=1)).blocks[index]
    torch.manual_seed(5)
    reinitialise(again)
    assert all(torch.equal(w, block.state_dict()[k]) for k, w in again.state_dict().items())


@pytest.mark.parametrize(("name", "d"), [("resnet8", 64), ("vit_tiny", 24)])
def test_a_siamese_head_reads_the_tuned_features_then_the_frozen_ones(name, d):
    frozen, tuned = drawn(name), drawn(name)
    tuned.load_state_dict(frozen.state_dict())
    disturbed(tuned.blocks[1])
    net = Siamese(frozen, tuned, 5).eval()
    found = net.features(images())
    assert torch.equal(found, torch.cat([tuned.features(images()), frozen.features(images())], 1))
    assert (net.fc.in_features, net.fc.out_features) == (2 * d, 5)
    assert torch.equal(net(images()), net.fc(found))
    # Blocks before the first one that differs can be run once.
    assert torch.allclose(net.after(frozen.before(images(), 1), 1), net(images()), atol=1e-6)


def test_the_frozen_half_has_no_gradient_and_keeps_its_statistics():
    frozen = disturbed(drawn("resnet8"))
    before = copy.deepcopy(frozen.state_dict())
    net = Siamese(frozen, copy.deepcopy(frozen), 5).train()
    assert net.tuned.training
    assert not any(module.training for module in net.frozen.modules())
    net(images()).square().sum().backward()
    assert all(p.grad is None for p in frozen.parameters())
    assert net.tuned.blocks[0].conv1.weight.grad.abs().max() > 0
    assert net.tuned.fc.weight.grad is None
    assert not any(p.requires_grad for p in net.tuned.fc.parameters())
    assert all(torch.equal(w, before[k]) for k, w in net.frozen.state_dict().items())
    running = "blocks.0.bn1.running_mean"
    assert not torch.equal(net.tuned.state_dict()[running], before[running])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.floats(0, 0.99))
def test_the_channels_that_stay_have_the_largest_scores(scores, share):
    kept = kept_channels(torch.tensor(scores).float(), share).tolist()
    gone = [i for i in range(len(scores)) if i not in kept]
    assert len(gone) == int(share * len(scores)) < len(scores)
    assert kept == sorted(kept)
    # Of equal scores the lowest index goes first.
    assert all((scores[i], i) < (scores[j], j) for i in gone for j in kept)


def silenced(net, name, share):
    """The network with what reads a channel that is to go set to zero, by the definition."""
    blocks = [net.blocks[i] for i in networks.stages(name)[-1]]
    n_convs = 3 if hasattr(blocks[0], "conv3") else 2

    def weakest(*convs):
        scores = sum(conv.weight.abs().sum((1, 2, 3)) for conv in convs)
        return scores.topk(int(share * len(scores)), largest=False).indices

    writers = [getattr(block, f"conv{n_convs}") for block in blocks]
    if isinstance(blocks[0].downsample, nn.Sequential):
        writers.append(blocks[0].downsample[0])
    readers = [(net.fc, weakest(*writers))]
    for i, block in enumerate(blocks):
        if i:
            readers.append((block.conv1, weakest(*writers)))
        for j in range(1, n_convs):
            readers.append((getattr(block, f"conv{j + 1}"), weakest(getattr(block, f"conv{j}"))))
    for module, gone in readers:
        module.weight[:, gone] = 0
    return net


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "share"),
    [("resnet8", 0.5), ("resnet20", 0.3), ("resnet20", 0.99), ("resnet18", 0.3), ("resnet50", 0.5)],
)
def test_a_pruned_network_is_one_in_which_nothing_reads_the_channels_that_go(name, share):
    net = disturbed(drawn(name)).eval()
    expected = silenced(copy.deepcopy(net), name, share)(images())
    full = net(images())
    prune(net, name, share)
    assert torch.allclose(net(images()), expected, rtol=1e-4, atol=float(1e-5 * full.abs().max()))
    assert not torch.allclose(full, expected, rtol=0.05)


@pytest.mark.slow
def test_shapes_and_costs_of_a_pruned_resnet_50():
    net = drawn("resnet50")
    before = block_flops(net, images(1, 64))
    prune(net, "resnet50")
    shapes = [tuple(getattr(net.blocks[13], f"conv{i}").weight.shape[:2]) for i in (1, 2, 3)]
    assert shapes == [(256, 1024), (256, 256), (1024, 256)]
    assert net.blocks[13].downsample[0].weight.shape[:2] == (1024, 1024)
    assert net.blocks[15].conv1.in_channels == net.fc.in_features == 1024
    after = block_flops(net, images(1, 64))
    assert after.blocks[:13] == before.blocks[:13]
    assert [a / b for a, b in zip(after.blocks[14:], before.blocks[14:], strict=True)] == [0.25] * 2
    out = net.train()(images())
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    copy.deepcopy(net).load_state_dict(net.state_dict())


def test_what_cannot_be_pruned_is_refused_and_a_share_of_0_changes_nothing():
    with pytest.raises(UserError, match="not those of 'vit_tiny'"):
        prune(drawn("vit_tiny"), "vit_tiny")
    with pytest.raises(UserError, match=r"model\.pruned: 1; at least 0 and below 1"):
        prune(drawn("resnet8"), "resnet8", 1)
    net = drawn("resnet8").eval()
    frozen = drawn("resnet8").eval().requires_grad_(False)
    prune(net, "resnet8", 0)
    assert torch.equal(net(images()), frozen(images()))
    prune(frozen, "resnet8")
    assert not any(p.requires_grad for p in frozen.parameters())
