"""The networks of the paper: order of layers, number of weights, dropout, histogram of weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retable.papers.binary_connect import histogram
from retable.papers.binary_connect.layers import BatchNorm, BinaryConv2d, BinaryLinear
from retable.papers.binary_connect.networks import (
    Recipe,
    binary_layers,
    cnn,
    mlp,
    n_weights,
    norms,
    use_statistics,
)

SHORT = {
    BinaryLinear: "dense",
    BinaryConv2d: "conv",
    BatchNorm: "norm",
    nn.ReLU: "relu",
    nn.MaxPool2d: "pool",
    nn.Flatten: "flatten",
    nn.Dropout: "dropout",
}
REGULARIZED = [Recipe(mode=m) for m in ("none", "det", "stoch")]


def order(network):
    return " ".join(SHORT[type(layer)] for layer in network)


@pytest.mark.parametrize("recipe", REGULARIZED)
def test_perceptron_normalises_after_every_layer_and_after_the_output(recipe):
    found = order(mlp(recipe, 5, [4, 3]))
    assert found == "flatten dense norm relu dense norm relu dense norm"


@pytest.mark.parametrize("recipe", REGULARIZED)
def test_convolutional_network_pools_before_it_normalises(recipe):
    network = cnn(recipe, (3, 8, 8), [4, 5], [7, 6])
    pair = "conv norm relu conv pool norm relu "
    dense = "flatten dense norm relu dense norm relu dense norm"
    assert order(network) == 2 * pair + dense
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_dropout_follows_every_hidden_activation_and_nothing_else():
    recipe = Recipe(dropout=0.5)
    assert order(mlp(recipe, 5, [4, 3])) == (
        "flatten dense norm relu dropout dense norm relu dropout dense norm"
    )
    network = cnn(recipe, (1, 4, 4), [2], [3])
    assert order(network) == (
        "conv norm relu dropout conv pool norm relu dropout "
        "flatten dense norm relu dropout dense norm"
    )
    assert {m.p for m in network if isinstance(m, nn.Dropout)} == {0.5}


def test_dropout_is_off_in_evaluation():
    torch.manual_seed(0)
    network, x = mlp(Recipe(dropout=0.5), 5, [64]), torch.randn(7, 5)
    assert not torch.equal(network(x), network(x))
    network.eval()
    first = network(x)
    assert torch.equal(first, network(x))
    without = nn.Sequential(*[m for m in network if not isinstance(m, nn.Dropout)])
    assert torch.equal(first, without(x))


def test_numbers_of_weights_are_those_of_the_papers_networks():
    with torch.device("meta"):
        assert n_weights(mlp(Recipe(), 784, [1024] * 3)) == 2_910_208
        cifar = cnn(Recipe(), (3, 32, 32), [128, 256, 512], [1024, 1024])
        assert n_weights(cifar) == 14_022_016
        svhn = cnn(Recipe(), (3, 32, 32), [64, 128, 256], [1024, 1024])
    shapes = [tuple(layer.weight.shape) for layer in binary_layers(cifar)]
    assert shapes == [
        (128, 3, 3, 3),
        (128, 128, 3, 3),
        (256, 128, 3, 3),
        (256, 256, 3, 3),
        (512, 256, 3, 3),
        (512, 512, 3, 3),
        (1024, 8192),
        (1024, 1024),
        (10, 1024),
    ]
    # Half of the channels: 1,144,512 weights of convolutions, 4096 inputs of the first dense layer.
    assert n_weights(svhn) == 1_144_512 + 4096 * 1024 + 1024 * 1024 + 1024 * 10
    assert [n.weight.numel() for n in norms(cifar)] == [s[0] for s in shapes]


def test_every_layer_has_the_recipes_options():
    recipe = Recipe("stoch", "one", weight_spread=0.5, momentum=0.15, normalization="deviation")
    network = cnn(recipe, (1, 8, 8), [8], [16])
    for layer in binary_layers(network):
        assert layer.mode == "stoch"
        assert layer.scale == 1
        assert 0.4 < layer.weight.abs().max() <= 0.5
    for layer in norms(network):
        assert (layer.momentum, layer.spread, layer.eps) == (0.15, "deviation", 1e-4)
        assert layer.source == "running"
        assert (layer.weight == 1).all()
        assert (layer.bias == 0).all()
    use_statistics(network, "recomputed")
    assert {layer.source for layer in norms(network)} == {"recomputed"}


@settings(max_examples=50, deadline=None)
@given(weights=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=200))
def test_histogram_of_clipped_weights_misses_none(weights):
    w = torch.tensor(weights)
    shares = histogram.shares(w)
    assert shares.shape == (100,)
    assert shares.dtype == torch.float64
    assert shares.sum().item() == pytest.approx(1)
    named = histogram.named(w)
    parts = sum(named[name] for name in ("at_bounds", "near_zero", "elsewhere"))
    assert parts == pytest.approx(1)
    bins = [named[f"bin_{i:02}"] for i in range(1, 12)]
    assert sum(bins) == pytest.approx(1)
    assert len(named) == 14


def test_weights_at_the_bounds_are_counted_in_their_bins():
    w = torch.tensor([1.0, 1.0, 1.0, -1.0, 0.0, 0.5, 1.1, -1.1]).view(2, 4)
    shares = histogram.shares(w)
    # Bins of width 0.022: 1 lies in number (1 + 1.1) / 0.022 = 95.45.
    assert shares[95] == 3 / 8
    assert shares[4] == 1 / 8
    assert shares[0] == shares[99] == 1 / 8, "the ends of the range belong to it"
    named = histogram.named(w)
    assert named["at_bounds"] == 6 / 8
    assert named["near_zero"] == named["elsewhere"] == 1 / 8
    assert named["bin_11"] == 4 / 8
    assert named["bin_01"] == 2 / 8
    assert named["bin_06"] == 1 / 8


def test_histogram_of_uniform_weights_is_flat():
    w = torch.linspace(-1, 1, 100_001)
    shares = histogram.shares(w)
    assert shares[5:95] == pytest.approx(torch.full((90,), 0.011).double(), abs=1e-4)
    named = histogram.named(w)
    assert named["at_bounds"] == pytest.approx(0.05, abs=1e-3)
    assert named["near_zero"] == pytest.approx(0.05, abs=1e-3)
    assert named["bin_06"] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("edge", [0.95, 0.05])
def test_the_edges_of_the_named_shares_belong_to_them(edge):
    named = histogram.named(torch.tensor([edge, -edge]))
    assert named["at_bounds" if edge > 0.5 else "near_zero"] == 1
    assert named["elsewhere"] == 0
