"""The paper's networks: a perceptron for MNIST, convolutional ones for CIFAR-10 and SVHN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from retable.papers.binary_connect.binarize import Mode
from retable.papers.binary_connect.layers import BatchNorm, BinaryConv2d, BinaryLinear, Magnitude


@dataclass(frozen=True)
class Recipe:
    """Options that the layers of a network have in common.

    Attributes:
        mode: how weights are binarised.
        magnitude: of binary weights.
        weight_spread: stored weights start uniform within so many magnitudes.
        dropout: probability with which a hidden activation is dropped.
        momentum: of batch normalisation.
        normalization: what batch normalisation divides by.
    """

    mode: Mode = "none"
    magnitude: Magnitude = "glorot"
    weight_spread: float = 1.0
    dropout: float = 0.0
    momentum: float = 0.1
    normalization: Literal["variance", "deviation"] = "variance"

    def dense(self, n_in: int, n_out: int) -> BinaryLinear:
        """A dense layer."""
        return BinaryLinear(
            n_in, n_out, mode=self.mode, magnitude=self.magnitude, spread=self.weight_spread
        )

    def convolution(self, n_in: int, n_out: int) -> BinaryConv2d:
        """A 3 x 3 convolution."""
        return BinaryConv2d(
            n_in, n_out, mode=self.mode, magnitude=self.magnitude, spread=self.weight_spread
        )

    def norm(self, n: int) -> BatchNorm:
        """A batch normalisation."""
        return BatchNorm(n, momentum=self.momentum, spread=self.normalization)

    def activation(self) -> list[nn.Module]:
        """ReLU, then dropout where there is any."""
        return [nn.ReLU(), *([nn.Dropout(self.dropout)] if self.dropout else [])]


def mlp(recipe: Recipe, n_in: int, widths: Sequence[int], n_out: int = 10) -> nn.Sequential:
    """``[dense, norm, ReLU]`` per hidden layer, then ``dense, norm``; takes ``(B, ...)``."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        layers += [recipe.dense(n_in, width), recipe.norm(width), *recipe.activation()]
        n_in = width
    return nn.Sequential(*layers, recipe.dense(n_in, n_out), recipe.norm(n_out))


def cnn(
    recipe: Recipe,
    shape: tuple[int, int, int],
    channels: Sequence[int],
    widths: Sequence[int],
    n_out: int = 10,
) -> nn.Sequential:
    """Pairs of convolutions ``(2 x channels)C3 - MP2``, then dense layers; all with norm.

    Order as in the authors' code: convolution, pooling where there is one, norm, ReLU.

    Args:
        recipe: common to all layers.
        shape: channels, height and width of an image, both divisible by 2 per pair.
        channels: per pair of convolutions.
        widths: of the hidden dense layers.
        n_out: classes.
    """
    n, height, width = shape
    layers: list[nn.Module] = []
    for count in channels:
        for pooled in (False, True):
            layers.append(recipe.convolution(n, count))
            layers += [nn.MaxPool2d(2)] if pooled else []
            layers += [recipe.norm(count), *recipe.activation()]
            n = count
        height, width = height // 2, width // 2
    return nn.Sequential(*layers, *mlp(recipe, n * height * width, widths, n_out))


def binary_layers(network: nn.Module) -> list[BinaryLinear | BinaryConv2d]:
    """The layers whose weights may be binary, in order."""
    return [m for m in network.modules() if isinstance(m, BinaryLinear | BinaryConv2d)]


def norms(network: nn.Module) -> list[BatchNorm]:
    """The batch normalisations, in order."""
    return [m for m in network.modules() if isinstance(m, BatchNorm)]


def use_statistics(network: nn.Module, source: Literal["running", "recomputed"]) -> None:
    """Choose the statistics that batch normalisation uses in evaluation."""
    for norm in norms(network):
        norm.source = source


def n_weights(network: nn.Module) -> int:
    """Number of weights that are or could be binary."""
    return sum(layer.weight.numel() for layer in binary_layers(network))
