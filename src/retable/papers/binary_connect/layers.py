"""Layers with binary weights, and batch normalisation with statistics of its own for evaluation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retable.papers.binary_connect.binarize import (
    Mode,
    binarize,
    glorot_coefficient,
    straight_through,
)
from retable.training import data_parallel

Magnitude = Literal["glorot", "one"]
Statistics = Literal["running", "recomputed"]
Spread = Literal["variance", "deviation"]


class _Binary:
    """Mixin that gives a layer binary weights.

    In training the weights are binarised anew at every forward pass, and that same draw serves the
    backward pass. In evaluation ``det`` uses the binary weights and ``stoch`` the stored ones.
    """

    weight: Tensor
    bias: Any
    training: bool
    mode: Mode
    scale: float
    glorot: float

    def _start(
        self, mode: Mode, magnitude: Magnitude, spread: float, fans: tuple[int, int]
    ) -> None:
        self.mode = mode
        self.glorot = glorot_coefficient(*fans)
        self.scale = self.glorot if magnitude == "glorot" else 1.0
        # Real weights start as Glorot's uniform, which is twice the coefficient.
        bound = spread * self.scale if mode != "none" else 2 * self.glorot
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def propagated(self) -> Tensor:
        """The weights that the layer computes with now."""
        if self.training:
            return straight_through(self.weight, self.scale, self.mode)
        if self.mode == "det":
            return binarize(self.weight, self.scale, "det")
        return self.weight

    def clip(self) -> None:
        """Bring stored weights that have left [-H, H] back to the bound."""
        if self.mode != "none":
            self.weight.data.clamp_(-self.scale, self.scale)


class BinaryLinear(_Binary, nn.Linear):
    """Dense layer ``(B, in) -> (B, out)``.

    Args:
        n_in: inputs.
        n_out: outputs.
        mode: how the weights are binarised.
        magnitude: H: the Glorot coefficient of the layer, or 1.
        spread: stored weights start uniform in ``[-spread H, spread H]``.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        mode: Mode,
        magnitude: Magnitude = "glorot",
        spread: float = 1.0,
    ) -> None:
        nn.Linear.__init__(self, n_in, n_out)
        self._start(mode, magnitude, spread, (n_in, n_out))

    def forward(self, input: Tensor) -> Tensor:
        """Outputs ``(B, out)``."""
        return F.linear(input, self.propagated(), self.bias)


class BinaryConv2d(_Binary, nn.Conv2d):
    """Convolution ``(B, in, H, W) -> (B, out, H, W)``, stride 1, padded to the same size.

    Args:
        n_in: input channels.
        n_out: output channels.
        size: width of the square kernel, odd.
        mode: as for :class:`BinaryLinear`, like all that follow.
        magnitude: as there; fans are channels times kernel area.
        spread: as there.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int = 3,
        *,
        mode: Mode,
        magnitude: Magnitude = "glorot",
        spread: float = 1.0,
    ) -> None:
        nn.Conv2d.__init__(self, n_in, n_out, size, padding=size // 2)
        self._start(mode, magnitude, spread, (n_in * size**2, n_out * size**2))

    def forward(self, input: Tensor) -> Tensor:
        """Outputs ``(B, out, H, W)``."""
        return F.conv2d(input, self.propagated(), self.bias, padding=self.padding)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the second, ``(B, C)`` or ``(B, C, H, W)``.

    Beside the moving averages of training it holds statistics that are *recomputed* over training
    images with the weights of evaluation: the moving averages of stochastic BinaryConnect belong
    to binary weights, its evaluation uses real ones.

    Args:
        n: channels.
        momentum: share of the newest batch in the moving averages.
        eps: keeps a division from exploding.
        spread: ``variance``: ``(x - m) / sqrt(var + eps)`` and averages of the variance, as in
            the code of the paper's MNIST results; ``deviation``: ``(x - m) / (std + eps)`` and
            averages of the deviation, as in the code published later.
    """

    def __init__(
        self,
        n: int,
        *,
        momentum: float = 0.1,
        eps: float = 1e-4,
        spread: Spread = "variance",
    ) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.spread: Spread = spread
        self.weight = nn.Parameter(torch.ones(n))
        self.bias = nn.Parameter(torch.zeros(n))
        for source in ("running", "recomputed"):
            self.register_buffer(f"{source}_mean", torch.zeros(n))
            self.register_buffer(f"{source}_spread", torch.ones(n))
        self.source: Statistics = "running"
        self.measured: int | None = None
        """Batches measured so far; None while nothing is measured."""

    def measure(self, on: bool) -> None:
        """Start or end recomputing: as long as it is on, batches enter a cumulative average."""
        self.measured = 0 if on else None

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input, of the same shape."""
        if self.measured is not None:
            self.measured += 1
            return self._by_batch(input, "recomputed", 1 / self.measured)
        if self.training:
            return self._by_batch(input, "running", self.momentum)
        mean, spread = self._statistics(self.source)
        if self.spread == "variance":
            return F.batch_norm(input, mean, spread, self.weight, self.bias, False, 0.0, self.eps)
        return self._scaled(input, mean, spread + self.eps)

    def _statistics(self, source: Statistics) -> tuple[Tensor, Tensor]:
        if source == "running":
            return self.running_mean, self.running_spread
        return self.recomputed_mean, self.recomputed_spread

    running_mean: Tensor
    running_spread: Tensor
    recomputed_mean: Tensor
    recomputed_spread: Tensor

    def _by_batch(self, input: Tensor, target: Statistics, share: float) -> Tensor:
        if target == "running" and data_parallel.active() is not None:
            return self._by_whole_batch(input, share)
        mean, spread = self._statistics(target)
        if self.spread == "variance":
            return F.batch_norm(input, mean, spread, self.weight, self.bias, True, share, self.eps)
        axes = [0, *range(2, input.dim())]
        batch_mean = input.mean(axes)
        # A channel that is constant over the batch has no gradient, not an infinite one.
        deviation = input.var(axes, correction=0).clamp_min(1e-30).sqrt()
        mean.lerp_(batch_mean.detach().to(mean.dtype), share)
        spread.lerp_(deviation.detach().to(spread.dtype), share)
        return self._scaled(input, batch_mean, deviation + self.eps)

    def _by_whole_batch(self, input: Tensor, share: float) -> Tensor:
        """The same for a batch that several processes have split: of all of its parts."""
        mean, variance, unbiased = data_parallel.moments(input)
        if self.spread == "variance":
            kept, divisor = variance * unbiased, (variance + self.eps).sqrt()
        else:
            kept = variance.clamp_min(1e-30).sqrt()
            divisor = kept + self.eps
        self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), share)
        self.running_spread.lerp_(kept.detach().to(self.running_spread.dtype), share)
        return self._scaled(input, mean, divisor)

    def _scaled(self, input: Tensor, mean: Tensor, divisor: Tensor) -> Tensor:
        shape = [1, -1, *[1] * (input.dim() - 2)]
        factor = self.weight / divisor
        return (input - mean.view(shape)) * factor.view(shape) + self.bias.view(shape)
