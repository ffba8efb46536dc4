"""Wide residual networks for small images, as WRN-28-10 and WRN-34-10.

Zagoruyko, Komodakis: Wide Residual Networks (BMVC 2016), Table 1: pre-activation blocks with two
3 x 3 convolutions in three stages of 16, 32 and 64 times the widening factor.

``(B, in_channels, H, W)`` becomes ``(B, n_classes)``; `features` is ``(B, 64 widen)``, at least 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.init import Init, initialise
from retable.nets.preact_resnet import PreActBlock
from retable.nets.stages import stages, thirds


class WideResNet(nn.Module):
    """A 3 x 3 stem of 16 channels, three stages of wide blocks, norm, ReLU, pooling and ``fc``.

    Args:
        depth: 6n + 4, with n blocks a stage.
        widen: factor of all channels but the stem's.
        n_classes: outputs.
        in_channels: of an image.
        dropout: probability with which an activation within a block is dropped.
        init: of convolutions. By default N(0, 2 / (k² out)), as the authors' code has it.
    """

    def __init__(
        self,
        depth: int,
        widen: int,
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.0,
        init: Init = "he_normal_out",
    ) -> None:
        super().__init__()

        def block(n_in: int, n_out: int, stride: int, _: bool) -> nn.Module:
            return PreActBlock(n_in, n_out, stride, dropout=dropout)

        width, channels = 16 * widen, 64 * widen
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1, self.layer2, self.layer3 = stages(thirds(depth, 4), 16, width, block)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, n_classes)
        initialise(self, init)
        nn.init.zeros_(self.fc.bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the dense layer is given: the mean over the image."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return F.relu(self.bn(x)).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.features(x))
