"""Binarisation of weights, its gradient, and the magnitude of binary weights.

Symbols as in the paper: ``w`` a stored weight, ``H > 0`` the magnitude, ``w_b`` in {-H, +H}.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from retable.training import data_parallel

Mode = Literal["none", "det", "stoch"]
"""Binarisation of weights in training: none, by sign, by a draw."""


def hard_sigmoid(x: Tensor) -> Tensor:
    """``clip((x + 1) / 2, 0, 1)`` (eq. 3)."""
    return ((x + 1) / 2).clamp(0, 1)


def binarize(
    weight: Tensor,
    scale: float,
    mode: Mode,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Binary weights, ``+scale`` or ``-scale``, without a gradient.

    Args:
        weight: stored weights, any shape.
        scale: magnitude H.
        mode: ``det``: +H where ``w >= 0`` (eq. 1); ``stoch``: +H with probability
            ``hard_sigmoid(w / H)``, one draw per weight (eq. 2); ``none`` returns the weights.
        generator: of the draws; the global one where left out.

    Returns:
        Tensor of the weights' shape and type.

    Raises:
        ValueError: for a magnitude that is not positive, or another mode.
    """
    if not scale > 0:
        raise ValueError(f"scale: {scale} is not positive")
    if mode not in get_args(Mode):
        raise ValueError(f"mode: {mode!r} is none of {', '.join(get_args(Mode))}")
    with torch.no_grad():
        if mode == "none":
            return weight.clone()
        if mode == "det":
            return _signs(weight.clone(), scale)
        draw = torch.rand(
            weight.shape, dtype=weight.dtype, device=weight.device, generator=generator
        )
        # With u = 1 - draw in (0, 1], u <= (w / H + 1) / 2 reads 0 <= (w + H) - 2 H u. In this
        # form a weight at a bound keeps its sign whatever is drawn, without clipping first.
        return _signs(torch.add(weight + scale, draw.neg_().add_(1), alpha=-2 * scale), scale)


def _signs(x: Tensor, scale: float) -> Tensor:
    """``+scale`` where ``x >= 0``, else ``-scale``, in place.

    Zero counts as positive. Four passes that run at the speed of memory; ``torch.where`` between
    two numbers takes five times as long on a CPU, which is a tenth of a training step.
    """
    return x.sign_().add_(0.5).sign_().mul_(scale)


class _StraightThrough(torch.autograd.Function):
    """Binary weights forward; the gradient with respect to them is that of the stored ones.

    Algorithm 1: the update of ``w`` uses ``dC/dw_b`` as it is. No mask ``|w| <= H``: it would
    freeze weights that sit on the bound.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: float, mode: Mode) -> Tensor:  # noqa: ARG004
        """Binary weights."""
        return binarize(weight, scale, mode, data_parallel.common(weight.device))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ARG004
        """The gradient as it is."""
        return grads[0], None, None


def straight_through(weight: Tensor, scale: float, mode: Mode) -> Tensor:
    """:func:`binarize` with the straight-through gradient; ``none`` is the identity."""
    return weight if mode == "none" else _StraightThrough.apply(weight, scale, mode)  # pyright: ignore[reportReturnType]


def glorot_coefficient(fan_in: int, fan_out: int) -> float:
    """``sqrt(1.5 / (fan_in + fan_out))``, half of the bound of Glorot's uniform initialisation."""
    return math.sqrt(1.5 / (fan_in + fan_out))
