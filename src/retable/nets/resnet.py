"""ResNets for small images: 6n + 2 layers with shortcuts without parameters, and 18 or 34 layers.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (CVPR 2016), Section 4.2 and
Table 6 for the first, Table 1 for the others, whose stem is a 3 x 3 convolution here, without
max-pooling.

``(B, in_channels, H, W)`` becomes ``(B, n_classes)``; `features` is ``(B, d)``, at least 0.
Modules are called as in torchvision: ``conv1, bn1, layer1.0.conv1, ..., fc``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock

from retable.nets.init import Init, initialise
from retable.nets.stages import BASIC, stages, thirds

Shortcut = Literal["padding", "projection"]


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, and zero channels, half of them before and half behind.

    ``(B, C, H, W)`` becomes ``(B, channels, ⌈H / stride⌉, ⌈W / stride⌉)``. The paper does not say
    where the zeros go; as here, they go in akamaster/pytorch_resnet_cifar10, whose trained weights
    are public.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        before = (channels - in_channels) // 2
        self.padding = (before, channels - in_channels - before)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Subsamples and pads ``x``."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.padding))


class BasicBlockNet(nn.Module):
    """A 3 x 3 stem, stages of torchvision's basic blocks, global average pooling and ``fc``.

    Args:
        blocks: per stage; each stage but the first halves the image and doubles the channels.
        n_classes: outputs.
        in_channels: of an image.
        width: channels of the first stage.
        shortcut: where the shape changes: `PaddedShortcut` (option A), or a 1 x 1 convolution with
            norm (option B).
        init: of convolutions.
        stem_init: of the first convolution, where it is another one.
        fc_init: of the dense layer.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        n_classes: int,
        in_channels: int,
        width: int,
        shortcut: Shortcut,
        init: Init,
        stem_init: Init | None = None,
        fc_init: Init = "torch",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.n_stages = len(blocks)

        def block(n_in: int, n_out: int, stride: int, _: bool) -> nn.Module:
            return BasicBlock(n_in, n_out, stride, _change(n_in, n_out, shortcut))

        for i, stage in enumerate(stages(blocks, width, width, block)):
            self.add_module(f"layer{i + 1}", stage)
        self.fc = nn.Linear(width * 2 ** (len(blocks) - 1), n_classes)
        initialise(self, init, fc_init)
        initialise(self.conv1, stem_init or init)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the dense layer is given: the mean over the image."""
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(self.n_stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return x.mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.features(x))


def _change(in_channels: int, channels: int, shortcut: Shortcut) -> nn.Module | None:
    if in_channels == channels:
        return None
    if shortcut == "padding":
        return PaddedShortcut(in_channels, channels, 2)
    convolution = nn.Conv2d(in_channels, channels, 1, 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


class CifarResNet(BasicBlockNet):
    """ResNet-20, 26, 32, 44, 56, ...: 3 stages of (depth - 2) / 6 blocks, option A (Table 6).

    ResNet-20 has 0.27 M parameters, 56 has 0.85 M. The paper draws weights as He et al. (2015) do
    and does not say by which fan: by default it is fan in. `features` is ``(B, 4 width)``.

    Args:
        depth: layers with weights, 6n + 2.
        n_classes: outputs.
        in_channels: of an image.
        width: channels of the first stage.
        init: of convolutions.
        fc_init: of the dense layer.
    """

    def __init__(
        self,
        depth: int,
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        init: Init = "he_normal",
        fc_init: Init = "he_normal",
    ) -> None:
        super().__init__(
            thirds(depth, 2),
            n_classes=n_classes,
            in_channels=in_channels,
            width=width,
            shortcut="padding",
            init=init,
            fc_init=fc_init,
        )


class ResNet(BasicBlockNet):
    """ResNet-18 and 34 for 32 x 32 (and, by global pooling, larger) images.

    By default convolutions start as in torchvision; ``init: torch`` is what most code for CIFAR
    does, ``stem_init: torch`` what replacing torchvision's ``conv1`` does. `features` is
    ``(B, 8 width)``.

    Args:
        depth: layers with weights.
        n_classes: outputs.
        in_channels: of an image.
        width: channels of the first stage.
        init: of convolutions.
        stem_init: of the first convolution, where it is another one.
    """

    def __init__(
        self,
        depth: Literal[18, 34],
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        init: Init = "he_normal_out",
        stem_init: Init | None = None,
    ) -> None:
        super().__init__(
            BASIC[depth],
            n_classes=n_classes,
            in_channels=in_channels,
            width=width,
            shortcut="projection",
            init=init,
            stem_init=stem_init,
        )
