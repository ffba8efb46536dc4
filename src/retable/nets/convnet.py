"""Plain convolutional networks: Conv-2 to Conv-8 of the lottery tickets, and a small strided one.

Frankle, Carbin: The Lottery Ticket Hypothesis (ICLR 2019), Figure 2: Conv-2, Conv-4 and Conv-6,
scaled down from VGG. Ramanujan et al.: What's Hidden in a Randomly Weighted Neural Network?
(CVPR 2020) add Conv-8. All map ``(B, in_channels, size, size)`` to ``(B, n_classes)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from retable.nets.init import Init, initialise

Activation = Literal["relu", "elu"]
_ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}


class ConvNet(nn.Module):
    """Pairs of 3 x 3 convolutions with max-pooling, two hidden dense layers, and ``fc``.

    The first pair has ``width`` channels, each further one twice as many. The activation follows
    every layer but the last; there is no norm and no dropout. `features` is ``(B, hidden)``.

    Args:
        n_convolutions: 2, 4, 6 or 8.
        n_classes: outputs.
        in_channels: of an image.
        size: of an image, divisible by 2 per pair.
        width: channels of the first pair.
        hidden: width of each hidden dense layer.
        activation: ``relu`` in the papers above, ``elu`` (α = 1) for signed supermasks.
        bias: whether layers have one; those that are masked have none.
        init: of all layers. By default Glorot's normal one (Frankle & Carbin, Figure 2).
    """

    def __init__(
        self,
        n_convolutions: Literal[2, 4, 6, 8],
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        size: int = 32,
        width: int = 64,
        hidden: int = 256,
        activation: Activation = "relu",
        bias: bool = True,
        init: Init = "glorot_normal",
    ) -> None:
        super().__init__()
        pairs = n_convolutions // 2
        if size % 2**pairs:
            raise ValueError(f"size is divisible by {2**pairs} with {pairs} poolings, not {size}")
        active = _ACTIVATIONS[activation]
        channels, layers = in_channels, list[nn.Module]()
        for pair in range(pairs):
            for _ in range(2):
                out = width * 2**pair
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=bias), active()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*layers)
        pixels = channels * (size // 2**pairs) ** 2
        self.hidden = nn.Sequential(
            nn.Linear(pixels, hidden, bias=bias),
            active(),
            nn.Linear(hidden, hidden, bias=bias),
            active(),
        )
        self.fc = nn.Linear(hidden, n_classes, bias=bias)
        initialise(self, init, init)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the last dense layer is given."""
        return self.hidden(self.convolutions(x).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.features(x))


class StridedConvNet(nn.Module):
    """3 x 3 convolutions with ReLU, global average pooling, and ``fc``: for reduced protocols.

    By default three layers of 16, 32 and 64 channels, which halve the image twice. It is no paper's
    own network. `features` is ``(B, widths[-1])``, at least 0.

    Args:
        widths: channels per convolution.
        strides: per convolution.
        n_classes: outputs.
        in_channels: of an image.
        batch_norm: between each convolution and its ReLU; convolutions have a bias where it is off.
        init: of convolutions.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        strides: Sequence[int] = (1, 2, 2),
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        batch_norm: bool = True,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        channels, layers = in_channels, list[nn.Module]()
        for out, stride in zip(widths, strides, strict=True):
            layers.append(nn.Conv2d(channels, out, 3, stride, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.ReLU())
            channels = out
        self.convolutions = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, n_classes)
        initialise(self, init)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the dense layer is given: the mean over the image."""
        return self.convolutions(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.features(x))
