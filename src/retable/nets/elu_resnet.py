"""ResNet-20, 56 and 110 with ELU and without biases, as signed supermasks mask them.

Koster, Grothe, Rettinger: Signing the Supermask: Keep, Hide, Invert (ICLR 2022) and its code
(kosnil/signed_supermasks). It is not the network of He et al.: the stem has a max-pooling, a
stage's first block begins with a 1 x 1 convolution, and its shortcut is one as well.

``(B, in_channels, H, W)`` becomes ``(B, n_classes)``; `features` is ``(B, 4 width)``.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.init import Init, initialise
from retable.nets.stages import stages, thirds

Norm = Literal["batch", "fixed"]


class FixedNorm(nn.Module):
    """Keras's batch norm that is not trained: mean 0 and variance 1, so division by √1.001."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x``, a little smaller."""
        return x / 1.001**0.5


def _norm(norm: Norm, channels: int) -> nn.Module:
    # The momentum and what is added to the variance are Keras's.
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01) if norm == "batch" else FixedNorm()


class EluBlock(nn.Module):
    """Two convolutions with norm, and a shortcut; a stage's ``first`` block is another one.

    ``(B, in_channels, H, W)`` becomes ``(B, channels, ⌈H / stride⌉, ⌈W / stride⌉)``.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, *, first: bool, norm: Norm
    ) -> None:
        super().__init__()
        size = 1 if first else 3
        self.conv1 = nn.Conv2d(in_channels, channels, size, stride, size // 2, bias=False)
        self.bn1 = _norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = _norm(norm, channels)
        self.inner = nn.ELU() if first else nn.Identity()
        self.shortcut = nn.Sequential()
        if first:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.shortcut.append(_norm(norm, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """ELU of the sum; where the block is the first, also of the first summand."""
        hidden = F.elu(self.bn1(self.conv1(x)))
        return F.elu(self.inner(self.bn2(self.conv2(hidden))) + self.shortcut(x))


class EluResNet(nn.Module):
    """A 3 x 3 stem with max-pooling (3 x 3, stride 1), three stages of `EluBlock`, and ``fc``.

    Args:
        depth: 6n + 2, with n blocks a stage.
        n_classes: outputs.
        in_channels: of an image.
        width: channels of the first stage: 16, times the paper's filter multiplier.
        norm: ``batch`` for the trained baseline, ``fixed`` for the masked networks.
        init: of all layers. By default the baseline's.
    """

    def __init__(
        self,
        depth: int,
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        norm: Norm = "batch",
        init: Init = "elu_uniform",
    ) -> None:
        super().__init__()

        def block(n_in: int, n_out: int, stride: int, first: bool) -> nn.Module:
            return EluBlock(n_in, n_out, stride, first=first, norm=norm)

        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = _norm(norm, width)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.layer1, self.layer2, self.layer3 = stages(thirds(depth, 2), width, width, block)
        self.fc = nn.Linear(4 * width, n_classes, bias=False)
        initialise(self, init, init)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the dense layer is given: the mean over the image."""
        x = self.pool(F.elu(self.bn1(self.conv1(x))))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.features(x))
