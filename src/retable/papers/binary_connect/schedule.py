"""The paper's learning rate: exponential from a first to a last value."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR


class ExponentialDecay(ExponentialLR):
    """``lr_k = lr_0 r^(k / epochs)``, once per epoch, for every parameter group.

    Args:
        optimizer: its learning rate is ``lr_0``.
        epochs: number of epochs.
        final: rate that is reached after them, ``r = final / lr_0``; or
        ratio: r itself.

    Raises:
        ValueError: unless one of ``final`` and ``ratio`` is given.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        epochs: Annotated[int, Field(ge=1)],
        final: Annotated[float, Field(gt=0)] | None = None,
        ratio: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        if (final is None) == (ratio is None):
            raise ValueError("model.scheduler: give one of final and ratio")
        r = ratio if final is None else final / optimizer.defaults["lr"]
        assert r is not None
        super().__init__(optimizer, gamma=r ** (1 / epochs))
