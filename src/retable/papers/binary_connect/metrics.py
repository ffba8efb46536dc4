"""The error rate as a metric object."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class ErrorRate(Metric):
    """Wrong predictions over all; counted, so no digit is lost to ``1 - accuracy``."""

    wrong: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("wrong", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Count a batch: outputs ``(B, K)``, labels ``(B,)``."""
        self.wrong += (outputs.argmax(1) != labels).sum()
        self.total += len(labels)

    def compute(self) -> Tensor:
        """The rate, in [0, 1]."""
        return self.wrong.double() / self.total
