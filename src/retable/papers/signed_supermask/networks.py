"""The fully connected network of the paper, LeNet-300-100, without biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn


class FCN(nn.Module):
    """Dense layers without biases on flattened images; ``(B, C, H, W)`` becomes ``(B, n_classes)``.

    Args:
        n_in: numbers of an image.
        widths: of the hidden layers.
        n_classes: outputs.
        activation: after the hidden layers; ELU with α = 1.
    """

    def __init__(
        self,
        n_in: int = 784,
        widths: Sequence[int] = (300, 100),
        *,
        n_classes: int = 10,
        activation: Literal["elu", "relu"] = "elu",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for width in widths:
            layers += [nn.Linear(n_in, width, bias=False)]
            layers += [nn.ELU() if activation == "elu" else nn.ReLU()]
            n_in = width
        self.hidden = nn.Sequential(*layers)
        self.fc = nn.Linear(n_in, n_classes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.fc(self.hidden(x))
