"""VGG with 16 or 19 layers for 32 x 32 images, with and without batch norm.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition (ICLR 2015),
Table 1, columns D and E: 3 x 3 convolutions with bias and ReLU in five stages, each followed by
max-pooling. A 32 x 32 image is a single pixel behind them, so the dense layers are smaller here.

``(B, in_channels, 32, 32)`` becomes ``(B, n_classes)``; `features` is ``(B, d)``, at least 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from retable.nets.init import Init, initialise

CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Five stages of convolutions and pooling, hidden dense layers with ReLU, and ``fc``.

    There is no dropout.

    Args:
        depth: layers with weights in the paper's network, which has two hidden dense layers.
        n_classes: outputs.
        in_channels: of an image.
        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        batch_norm: between each convolution and its ReLU.
        hidden: widths of the hidden dense layers. VGG-16 without norm mostly has (512, 512), much
            code for CIFAR-10 with norm has none.
        init: of convolutions. By default N(0, 2 / (k² out)), biases zero.
        dense_init: of dense layers.
        mean: per channel, subtracted from an image within the network.
        std: per channel, divides an image within the network.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        depth: Literal[16, 19] = 16,
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        batch_norm: bool = False,
        hidden: Sequence[int] = (512, 512),
        init: Init = "he_normal_out",
        dense_init: Init = "torch",
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)
        channels, layers = in_channels, list[nn.Module]()
        for stage, n in enumerate(CONVOLUTIONS[depth]):
            for _ in range(n):
                out = width * min(2**stage, 8)
                layers.append(nn.Conv2d(channels, out, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out))
                layers.append(nn.ReLU())
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*layers)
        dense: list[nn.Module] = []
        for n in hidden:
            dense += [nn.Linear(channels, n), nn.ReLU()]
            channels = n
        self.hidden = nn.Sequential(*dense)
        self.fc = nn.Linear(channels, n_classes)
        initialise(self, init, dense_init)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the last dense layer is given."""
        x = self.convolutions((x - self.mean) / self.std)
        return self.hidden(x.flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.features(x))
