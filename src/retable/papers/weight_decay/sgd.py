"""Optimiser and schedule of the vision experiments: plain SGD with coupled decay, and one drop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class CoupledSGD(torch.optim.SGD):
    """``w <- w - eta (g + lambda w)`` for every weight that it is given; there is no momentum.

    Args:
        params: what is trained.
        rates: eta by name.
        rate: which of them it begins with.
        decay: lambda.
        product: eta lambda, from which lambda follows in place of ``decay``.

    Raises:
        ValueError: for a rate that has no name, or where decay and product are both given.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        rates: dict[str, float],
        rate: str = "large",
        decay: Annotated[float, Field(ge=0)] = 0.0,
        product: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        if rate not in rates:
            raise ValueError(f"model.optimizer.rate: no '{rate}' in rates; valid: {sorted(rates)}")
        if product is not None and decay:
            raise ValueError("model.optimizer.product: gives the decay, so that decay has to be 0")
        eta = rates[rate]
        super().__init__(params, lr=eta, weight_decay=decay if product is None else product / eta)


class OneDrop(LRScheduler):
    """The optimiser's rate before an epoch and another, exactly, from it on.

    Weight decay stays as it is: with SGD it acts by the product of both.

    Args:
        optimizer: whose rates are meant.
        at: epoch with the first lower rate.
        rate: from then on.

    Raises:
        ValueError: for a drop before the first epoch has ended.
    """

    def __init__(self, optimizer: Optimizer, *, at: int, rate: float) -> None:
        if at < 1:
            raise ValueError(f"model.scheduler.at: an epoch from 1 on, not {at}")
        self.at, self.rate = at, rate
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the epoch that begins, one per group."""
        return [self.rate if self.last_epoch >= self.at else lr for lr in self.base_lrs]
