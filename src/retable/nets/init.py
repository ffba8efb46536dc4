"""Initialisations of weights, by the names that configs use; biases become zero.

``torch`` is what torch draws by itself (uniform, for weights and biases). Of the others,
``he_*`` are He et al. (ICCV 2015) and ``glorot_*`` Glorot & Bengio (AISTATS 2010). ``he_normal``
and ``he_uniform`` keep the variance of the signals (fan in), ``he_normal_out`` that of the
gradients (fan out), which is N(0, 2 / (k² out)). ``elu_uniform`` is U(-b, b), b = √(4.5 / fan in),
for ELU with α = 1: its variance is 1.5 / fan in, as E[ELU(z)²] = 0.645 ≈ 1 / 1.5 for z ~ N(0, 1).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Init = Literal[
    "torch",
    "he_normal",
    "he_normal_out",
    "he_uniform",
    "elu_uniform",
    "glorot_normal",
    "glorot_uniform",
]


def initialise(net: nn.Module, convolutions: Init, dense: Init = "torch") -> None:
    """Draws the weights of all convolutions and dense layers anew, from torch's generator."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            _draw(layer, convolutions)
        elif isinstance(layer, nn.Linear):
            _draw(layer, dense)


def _draw(layer: nn.Conv2d | nn.Linear, init: Init) -> None:
    weight: torch.Tensor = layer.weight
    match init:
        case "torch":
            layer.reset_parameters()
            return
        case "he_normal":
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        case "he_normal_out":
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        case "he_uniform":
            nn.init.kaiming_uniform_(weight, nonlinearity="relu")
        case "elu_uniform":
            bound = (4.5 / weight[0].numel()) ** 0.5
            nn.init.uniform_(weight, -bound, bound)
        case "glorot_normal":
            nn.init.xavier_normal_(weight)
        case "glorot_uniform":
            nn.init.xavier_uniform_(weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
