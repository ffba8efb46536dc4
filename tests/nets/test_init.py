"""Initialisations: their spread, and that nothing else is touched."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from retable.nets.init import initialise

# A convolution with fans of 9 * 32 and 9 * 128.
INSIDE, OUTSIDE = 288, 1152


@pytest.mark.parametrize(
    ("init", "variance", "uniform"),
    [
        ("torch", 1 / 3 / INSIDE, True),  # kaiming_uniform with a = sqrt(5)
        ("he_normal", 2 / INSIDE, False),
        ("he_normal_out", 2 / OUTSIDE, False),
        ("he_uniform", 2 / INSIDE, True),
        ("elu_uniform", 1.5 / INSIDE, True),
        ("glorot_normal", 2 / (INSIDE + OUTSIDE), False),
        ("glorot_uniform", 2 / (INSIDE + OUTSIDE), True),
    ],
)
def test_the_spread(init, variance, uniform):
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 128, 3)
    initialise(layer, init)
    weight = layer.weight.detach()
    assert weight.var().item() == pytest.approx(variance, rel=0.03)
    bound = math.sqrt(3 * variance)
    assert (weight.abs().max() <= bound + 1e-7) == uniform
    assert (weight.abs().max() > 0.99 * bound).item()
    assert layer.bias.count_nonzero() == (128 if init == "torch" else 0)


def test_convolutions_and_dense_layers_are_told_apart_and_norms_are_left():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(1000, 100))
    nn.init.constant_(net[1].weight, 7)
    initialise(net, "he_normal", "elu_uniform")
    assert net[1].weight.eq(7).all()
    assert net[0].weight.abs().max() > 0.2
    assert net[2].weight.abs().max() <= math.sqrt(4.5 / 1000)
