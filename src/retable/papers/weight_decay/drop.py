"""The schedule of the vision experiments: one drop of the rate."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class OneDrop(LRScheduler):
    """The optimiser's rate before an epoch and another, exactly, from it on.

    Weight decay stays as it is: with SGD it acts by the product of both.

    Args:
        optimizer: whose rates are meant.
        at: epoch with the first lower rate.
        rate: from then on.
    """

    def __init__(self, optimizer: Optimizer, *, at: int, rate: float) -> None:
        if at < 1:
            raise ValueError(f"model.scheduler.at: an epoch from 1 on, not {at}")
        self.at, self.rate = at, rate
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the epoch that begins, one per group."""
        return [self.rate if self.last_epoch >= self.at else lr for lr in self.base_lrs]
