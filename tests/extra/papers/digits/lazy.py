"""A perceptron whose first layer learns its size from the first batch."""

from __future__ import annotations

from torch import nn

# isort: split
from retable.papers.digits.module import Perceptron


class Lazy(Perceptron):
    """Its weights have no shape before a batch has come."""

    def build_model(self) -> None:
        self.net = nn.Sequential(nn.LazyLinear(self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10))
