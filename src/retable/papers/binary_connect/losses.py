"""The loss of the paper's networks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def square_hinge(
    outputs: Tensor, labels: Tensor, *, reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """One-versus-all square hinge loss ``max(0, 1 - t y)^2`` with targets t in {-1, +1}.

    Args:
        outputs: y, ``(B, K)``.
        labels: class of each item, ``(B,)`` int64.
        reduction: over classes; over the batch it is always the mean. ``sum`` in the code of the
            paper's MNIST results, ``mean`` in the code published later, K times smaller.
    """
    targets = torch.full_like(outputs, -1.0).scatter_(1, labels[:, None], 1.0)
    loss = torch.relu(1 - targets * outputs).square()
    return loss.sum() / len(outputs) if reduction == "sum" else loss.mean()
