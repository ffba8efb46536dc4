"""Activations that are holomorphic: the same expression for real and for complex states."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Activation = Literal["sigmoid", "dsilu"]


def activate(name: Activation, u: Tensor, out: Tensor | None = None) -> Tensor:
    """``sigma(u)``, of the shape of u.

    ``sigmoid`` is ``1 / (1 + exp(-4 u + 2))``, with slope 1 at its middle, u = 0.5. ``dsilu`` is
    ``u/2 S(u) + (1 - u/2) S(u - 2)`` with the logistic function S, a soft clip to [0, 1].
    Where no gradient is wanted, ``out`` may be written into.
    """
    if name == "sigmoid":
        return torch.mul(u, 4, out=out).sub_(2).sigmoid_()
    return u / 2 * torch.sigmoid(u) + (1 - u / 2) * torch.sigmoid(u - 2)


def slope(name: Activation, u: Tensor, s: Tensor | None = None) -> Tensor:
    """``sigma'(u)``, of the shape of u; where ``s = sigma(u)`` is known, it may be given."""
    if name == "sigmoid":
        s = activate(name, u) if s is None else s
        return 4 * s * (1 - s)
    low, high = torch.sigmoid(u), torch.sigmoid(u - 2)
    of_low, of_high = low * (1 - low), high * (1 - high)
    return (low - high) / 2 + u / 2 * of_low + (1 - u / 2) * of_high
