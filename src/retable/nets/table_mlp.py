"""A perceptron with batch norm for tables of numbers.

Hasegawa, Sato: Exploring Weight Balancing on Long-Tailed Recognition Problem (ICLR 2024), whose
code has 1 + 8 hidden layers of 512 units.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn


class TableMLP(nn.Module):
    """Dense layers with batch norm and ReLU for rows of numbers: one, then ``depth`` of one width.

    ``(B, n_features)`` becomes ``(B, n_classes)``. Hidden layers have no bias. `features` is
    ``(B, width)``, at least 0.

    Args:
        n_features: columns.
        n_classes: C.
        width: of all hidden layers.
        depth: hidden layers after the first.
        skips: add what a hidden layer is given to what its ReLU is given, in all but the first and
            the last.
    """

    def __init__(
        self,
        n_features: Annotated[int, Field(ge=1)] = 27,
        *,
        n_classes: Annotated[int, Field(ge=2)] = 100,
        width: Annotated[int, Field(ge=1)] = 512,
        depth: Annotated[int, Field(ge=1)] = 8,
        skips: bool = False,
    ) -> None:
        super().__init__()
        inputs = [n_features, *[width] * depth]
        self.linear = nn.ModuleList(nn.Linear(n, width, bias=False) for n in inputs)
        self.norm = nn.ModuleList(nn.BatchNorm1d(width) for _ in inputs)
        self.fc = nn.Linear(width, n_classes)
        self.skips = skips

    def features(self, x: Tensor) -> Tensor:
        """What the last dense layer is given."""
        last = len(self.linear) - 1
        for i, (linear, norm) in enumerate(zip(self.linear, self.norm, strict=True)):
            z = norm(linear(x))
            x = F.relu(z + x if self.skips and 0 < i < last else z)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.features(x))
