"""Pre-activation ResNets with 18 or 34 layers for small images.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks (ECCV 2016), Figure 4(e): norm and
ReLU come before each convolution. Where the shape changes, the shortcut is a 1 x 1 convolution
without norm of the activated input.

``(B, in_channels, H, W)`` becomes ``(B, n_classes)``; `features` is ``(B, 8 width)``.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.init import Init, initialise
from retable.nets.stages import BASIC, stages


class PreActBlock(nn.Module):
    """Norm, ReLU, convolution, norm, ReLU (, dropout), convolution, plus the shortcut.

    ``(B, in_channels, H, W)`` becomes ``(B, channels, ⌈H / stride⌉, ⌈W / stride⌉)``.

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of the first convolution.
        dropout: probability with which an activation between the convolutions is dropped.
        scale_invariant: as in `PreActResNet`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        dropout: float = 0.0,
        scale_invariant: bool = False,
    ) -> None:
        super().__init__()
        affine, bias = not scale_invariant, scale_invariant
        self.bn1 = nn.BatchNorm2d(in_channels, affine=affine)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(channels, affine=affine)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=bias)
            if scale_invariant:
                norm = nn.BatchNorm2d(in_channels, affine=False)
                self.shortcut = nn.Sequential(norm, self.shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output, before any activation."""
        active = F.relu(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        hidden = F.relu(self.bn2(self.conv1(active)))
        return self.conv2(self.dropout(hidden)) + kept


class PreActResNet(nn.Module):
    """A 3 x 3 stem without norm, four stages of pre-activation blocks, pooling and ``fc``.

    Its variants in the literature differ before the first and after the last convolution:

    * ``input_norm``: norm of the image itself (D'Angelo et al., NeurIPS 2024).
    * ``final_norm``: norm and ReLU before the pooling, as in the paper. Much code for CIFAR-10 that
      adversarial training uses has none, so that `features` may be negative.
    * ``scale_invariant``: multiplying all weights by a number leaves the outputs as they are, up to
      what is added to the variance: norms have no weights of their own, convolutions have a bias,
      the shortcut has a norm before its convolution, and ``fc`` is frozen (D'Angelo et al.).

    Args:
        depth: layers with weights.
        n_classes: outputs.
        in_channels: of an image.
        width: channels of the first stage; each further one doubles them and halves the image.
        input_norm: see above.
        final_norm: see above.
        scale_invariant: see above.
        init: of convolutions. ``torch`` is what D'Angelo et al. and much code for CIFAR-10 leave;
            the default is that of the paper's authors' code.
    """

    def __init__(
        self,
        depth: Literal[18, 34],
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        input_norm: bool = False,
        final_norm: bool = True,
        scale_invariant: bool = False,
        init: Init = "he_normal_out",
    ) -> None:
        super().__init__()

        def block(n_in: int, n_out: int, stride: int, _: bool) -> nn.Module:
            return PreActBlock(n_in, n_out, stride, scale_invariant=scale_invariant)

        affine = not scale_invariant
        self.bn1 = nn.BatchNorm2d(in_channels, affine=affine) if input_norm else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=scale_invariant)
        channels = 8 * width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages(
            BASIC[depth], width, width, block
        )
        self.bn = nn.Identity()
        if final_norm:
            self.bn = nn.Sequential(nn.BatchNorm2d(channels, affine=affine), nn.ReLU())
        self.fc = nn.Linear(channels, n_classes)
        initialise(self, init)
        if scale_invariant:
            self.fc.requires_grad_(False)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the dense layer is given: the mean over the image."""
        x = self.conv1(self.bn1(x))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.bn(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.features(x))
