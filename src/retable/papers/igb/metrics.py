"""Metrics of one task."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Base: the mean over items of what :meth:`value` gives."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def value(self, predicted: Tensor, target: Tensor) -> Tensor:
        """One number for each item ``(B,)``."""
        raise NotImplementedError

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add items."""
        self.total += self.value(predicted, target).double().sum()
        self.count += len(target)

    def compute(self) -> Tensor:
        """Their mean."""
        return (self.total / self.count).float()


class Error(Mean):
    """Share of wrong classes, of predicted classes ``(B,)``."""

    def value(self, predicted: Tensor, target: Tensor) -> Tensor:
        """1 where the class is wrong."""
        return predicted != target


class Unexplained(Mean):
    """Mean squared error of numbers ``(B,)`` in units of their standard deviation."""

    def value(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Squared difference."""
        return (predicted - target).square()
