"""Masks: signs and thresholds, gradients of hidden entries, ranks by brute force, layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.convnet import ConvNet
from retable.papers.signed_supermask.initial import Initial
from retable.papers.signed_supermask.masks import (
    Sampled,
    Threshold,
    TopShare,
    mask_layer,
    mask_of,
    scores_of,
    straight_through,
    ternary,
    top_share,
    weighted,
)

UNIFORM = Initial("xavier", "uniform")


def masked(layer, recipe=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask_layer(layer, recipe or Threshold(UNIFORM), generator)
    return layer


def parts(layer):
    made = layer.parametrizations.weight[0]
    return made.weight, made


def test_signs_and_a_strict_threshold():
    scores = torch.tensor([-1, -0.3, 0, 0.3, 1])
    assert ternary(scores, 0.5).tolist() == [-1, 0, 0, 0, 1]
    assert ternary(scores, scores[3]).tolist() == [-1, 0, 0, 0, 1]
    assert ternary(scores, 0.29).tolist() == [-1, -1, 0, 1, 1]


def test_the_binary_mask_has_no_minus():
    layer = masked(nn.Linear(3, 1, bias=False), Threshold(UNIFORM, 0.5, signed=False))
    with torch.no_grad():
        scores_of(layer).copy_(torch.tensor([[-9.0, 0.0, 9.0]]))
        parts(layer)[1].threshold.fill_(9.0)
        assert mask_of(layer).tolist() == [[0, 0, 0]]
        parts(layer)[1].threshold.fill_(8.9)
        assert mask_of(layer).tolist() == [[0, 0, 1]]


def test_a_fixed_threshold_is_that_of_every_layer():
    for n in (3, 300):
        layer = masked(nn.Linear(n, 1, bias=False), Threshold(UNIFORM, fixed=0.01))
        assert parts(layer)[1].threshold.item() == pytest.approx(0.01)


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_the_gradient_goes_to_hidden_entries_too(kind):
    """dC/dM is W dC/dW_eff of a plain layer that has the effective weight as its own."""
    layer = nn.Linear(6, 5, bias=False) if kind == "dense" else nn.Conv2d(2, 3, 3, bias=False)
    plain = nn.Linear(6, 5, bias=False) if kind == "dense" else nn.Conv2d(2, 3, 3, bias=False)
    masked(layer, Threshold(UNIFORM, 0.75))
    frozen, _ = parts(layer)
    with torch.no_grad():
        plain.weight.copy_(frozen * mask_of(layer))
    x = torch.randn(4, 6) if kind == "dense" else torch.randn(4, 2, 5, 5)
    assert torch.equal(layer(x), plain(x))
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    found = scores_of(layer).grad
    assert torch.equal(found, frozen * plain.weight.grad)
    hidden = mask_of(layer) == 0
    assert hidden.sum() > len(hidden)
    assert bool((found[hidden] != 0).all())


def test_straight_through_is_what_autograd_gives():
    soft, mask, weight = torch.randn(7, requires_grad=True), torch.ones(7), torch.randn(7)
    (weight * (mask + soft - soft.detach())).square().sum().backward()
    expected, soft.grad = soft.grad, None
    straight_through(soft, mask, weight).square().sum().backward()
    torch.testing.assert_close(soft.grad, expected)


def test_thresholds_are_of_the_layers_and_near_a_share_of_their_bounds():
    """p b for U(-b, b), so that 60 % is kept or inverted where p is 0.4."""
    taus = []
    for n_in, n_out in ((784, 300), (300, 100), (300, 1000)):
        layer = masked(nn.Linear(n_in, n_out, bias=False))
        taus.append(float(parts(layer)[1].threshold))
        assert taus[-1] == pytest.approx(0.4 * (6 / (n_in + n_out)) ** 0.5, rel=0.01)
        assert mask_of(layer).abs().mean() == pytest.approx(0.6, abs=0.02)
        assert taus[-1] == float((0.4 * scores_of(layer).abs().max()).detach())
    assert len(set(taus)) == 3


def test_signs_of_weights_and_scores_can_be_turned_together():
    """(W, M) and (-W, -M) compute the same, and M moves to the mirror image, step by step."""
    from retable.papers.signed_supermask.sgdw import SGDW

    one, other = nn.Linear(8, 5, bias=False), nn.Linear(8, 5, bias=False)
    masked(one)
    masked(other)
    with torch.no_grad():
        parts(other)[0].copy_(-parts(one)[0])
        scores_of(other).copy_(-scores_of(one))
        parts(other)[1].threshold.copy_(parts(one)[1].threshold)
    steps = [SGDW([scores_of(layer)], 0.5, 1e-2) for layer in (one, other)]
    masks = []
    for _ in range(20):
        x, labels = torch.randn(16, 8), torch.randint(5, (16,))
        assert torch.equal(one(x), other(x))
        for layer, step in zip((one, other), steps, strict=True):
            step.zero_grad()
            F.cross_entropy(layer(x), labels).backward()
            step.step()
        assert torch.equal(scores_of(one), -scores_of(other))
        masks.append(mask_of(one))
    assert not torch.equal(masks[0], masks[-1])


def test_ranks_by_brute_force_with_ties():
    scores = torch.tensor([0.5, -0.5, 0.1, -0.9, 0.5, 0.0, -0.1, 0.3, -0.3, 0.7])
    for share in (0.05, 0.3, 0.45, 0.5, 0.77, 1.0):
        rising = sorted(range(10), key=lambda i: (abs(float(scores[i])), i))
        dropped = rising[: int((1 - share) * 10)]
        expected = [0.0 if i in dropped else 1.0 for i in range(10)]
        assert top_share(scores, share).tolist() == expected, share
        assert top_share(scores.view(2, 5), share).shape == (2, 5)


def test_edge_popup_s_gradient_is_that_of_the_size():
    layer = masked(nn.Linear(6, 5, bias=False), TopShare(0.3))
    frozen, _ = parts(layer)
    assert mask_of(layer).sum() == 30 - int(0.7 * 30)
    assert scores_of(layer).abs().max() <= 6**-0.5
    layer(torch.ones(1, 6)).sum().backward()
    assert torch.equal(scores_of(layer).grad, frozen * scores_of(layer).detach().sign())


@pytest.mark.parametrize("rescale", [False, True])
def test_sampled_masks(rescale):
    layer = masked(nn.Linear(200, 100, bias=False), Sampled(1.0, rescale))
    frozen, _ = parts(layer)
    share = torch.tensor(1.0).sigmoid()
    torch.manual_seed(3)
    effective = layer.weight
    ratio = (effective / frozen).detach()
    kept = ratio != 0
    assert float(kept.double().mean()) == pytest.approx(float(share), abs=0.01)
    scale = kept.numel() / kept.sum() if rescale else torch.tensor(1.0)
    torch.testing.assert_close(ratio, kept * scale)
    assert not torch.equal(layer.weight != 0, kept)  # drawn anew
    effective.sum().backward()
    torch.testing.assert_close(scores_of(layer).grad, frozen * scale * share * (1 - share))


def test_what_is_trained_is_a_tensor_a_layer():
    net = ConvNet(2, width=2, hidden=3, size=4, activation="elu", bias=False)
    layers = weighted(net)
    for _, layer in layers:
        masked(layer)
    assert len(layers) == len(list(net.parameters())) == 5
    assert [name for name, _ in layers][-1] == "fc"


def test_a_bias_is_refused_with_its_layer():
    with pytest.raises(ValueError, match=r"model\.net: layer convolutions\.0 has a bias"):
        weighted(ConvNet(2, width=2, hidden=3, size=4))
