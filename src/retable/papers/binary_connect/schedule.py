"""The paper's learning rate: exponential from a first to a last value."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR


class ExponentialDecay(ExponentialLR):
    """``lr_k = lr_0 (final / lr_0)^(k / epochs)``, once per epoch, for every parameter group.

    Args:
        optimizer: its learning rate is ``lr_0``.
        final: rate that is reached after ``epochs`` epochs.
        epochs: number of epochs.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        final: Annotated[float, Field(gt=0)],
        epochs: Annotated[int, Field(ge=1)],
    ) -> None:
        super().__init__(optimizer, gamma=(final / optimizer.defaults["lr"]) ** (1 / epochs))
