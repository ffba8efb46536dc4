"""The convolutional network: 3 x 3 convolutions, softmax pooling, feedback through both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field as Bound
from torch import Tensor, nn

from retable.papers.equilibrium_prop.dense import lecun_normal, rotate
from retable.papers.equilibrium_prop.systems import Net, System, by_parts


def softmax_pool(v: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax pooling of 2 x 2 windows, ``sum v p``, and its derivative ``p (1 + v - pooled)``.

    p is the softmax of a window v. The largest real part is taken off before the exponential.

    Args:
        v: ``(B, C, 2 h, 2 w)``, real or complex.

    Returns:
        ``(B, C, h, w)``, and the derivative of v's shape.
    """
    b, c, height, width = v.shape
    windows = v.view(b, c, height // 2, 2, width // 2, 2)
    top = windows.real.amax((3, 5), keepdim=True).detach()
    p = (windows - top).exp()
    p = p / p.sum((3, 5), keepdim=True)
    pooled = (p * windows).sum((3, 5), keepdim=True)
    slope = p * (1 + windows - pooled)
    return pooled[:, :, :, 0, :, 0], slope.view(v.shape)


@dataclass(frozen=True)
class ConvSystem(System):
    """``H`` of layer k: pooled convolution of k - 1, and what comes back from k + 1.

    What comes back is the gradient of ``sum(pool(back * s_k) s_{k+1})`` in ``s_k``.

    Attributes:
        drive: what the image contributes to the first layer, ``(B, C, h, w)``.
        forward: kernels and biases of the convolutions between layers.
        back: kernels of the feedback, of the same shapes.
        shapes: of every layer's state, ``(C, h, w)``.
    """

    forward: Sequence[tuple[Tensor, Tensor]]
    back: Sequence[Tensor]
    shapes: Sequence[tuple[int, int, int]]

    def field(self, s: Tensor, out: Tensor | None = None) -> Tensor:
        """``H(s)``; ``out`` is left alone."""
        states = [
            s[:, place].view(len(s), *shape)
            for place, shape in zip(self.layers.values(), self.shapes, strict=True)
        ]
        fields = [self.drive]
        for k, (weight, bias) in enumerate(self.forward):
            padding = int(k < len(self.forward) - 1)  # the last one is valid, the others keep size
            low, high, back = states[k], states[k + 1], self.back[k]
            fields.append(_up(low, weight, bias, padding))
            fields[k] = fields[k] + _down(low, high, back, padding)
        return torch.cat([part.flatten(1) for part in fields], 1)

    def detached(self) -> ConvSystem:
        """The same without gradients of the weights."""
        forward = [(weight.detach(), bias.detach()) for weight, bias in self.forward]
        back = [weight.detach() for weight in self.back]
        return replace(self, drive=self.drive.detach(), forward=forward, back=back)

    def to(self, dtype: torch.dtype) -> ConvSystem:
        """The same in another type, for a free phase in half precision."""
        forward = [(weight.to(dtype), bias.to(dtype)) for weight, bias in self.forward]
        back = [weight.to(dtype) for weight in self.back]
        return replace(self, drive=self.drive.to(dtype), forward=forward, back=back)


def _up(low: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    v = by_parts(lambda part: F.conv2d(part, weight, padding=padding), low)
    return softmax_pool(v + bias[:, None, None])[0]


def _down(low: Tensor, high: Tensor, back: Tensor, padding: int) -> Tensor:
    _, slope = softmax_pool(by_parts(lambda part: F.conv2d(part, back, padding=padding), low))
    above = high.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return by_parts(lambda part: F.conv_transpose2d(part, back, padding=padding), slope * above)


class Conv(Net):
    """Convolutions with as many channels as given, each pooled to half the size; the last is valid.

    Args:
        shape: channels, height and width of an image.
        channels: of the layers ``l1``, ``l2``, ..., ``out``.
        angle: initial angle between forward and backward kernels, in degrees.
        rate_factors: of the learning rate: of the input's kernel, then of each pair of kernels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (3, 32, 32),
        channels: tuple[int, ...] = (128, 256, 512, 512),
        angle: Annotated[float, Bound(ge=0, le=180)] = 0.0,
        rate_factors: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.angle = "dsilu", angle
        c, height, width = shape
        smallest = 2 ** (len(channels) - 1)
        if (height, width) != (4 * smallest, 4 * smallest):
            raise ValueError(
                f"model.net.shape: {len(channels)} layers need a side of {4 * smallest}"
            )
        if rate_factors is not None and len(rate_factors) != len(channels):
            raise ValueError(f"model.net.rate_factors: has to have {len(channels)} of them")
        self.rate_factors = rate_factors
        self.input = nn.Parameter(torch.empty(channels[0], c, 3, 3))
        self.input_bias = nn.Parameter(torch.zeros(channels[0]))
        both = list(zip(channels[1:], channels, strict=False))
        self.up = nn.ParameterList(torch.empty(high, low, 3, 3) for high, low in both)
        self.down = nn.ParameterList(torch.empty(high, low, 3, 3) for high, low in both)
        self.bias = nn.ParameterList(torch.zeros(high) for high, _ in both)
        self.shapes: list[tuple[int, int, int]] = []
        self.layers, start = {}, 0
        names = [*(f"l{k}" for k in range(1, len(channels))), "out"]
        for k, (name, width) in enumerate(zip(names, channels, strict=True), start=1):
            side = 1 if name == "out" else height // 2**k
            self.shapes.append((width, side, side))
            self.layers[name] = slice(start, start + width * side * side)
            start = self.layers[name].stop
        self.n, self.n_out = start, channels[-1]

    def draw(self, generator: torch.Generator) -> None:
        """Draw initial kernels, and turn the backward ones to the angle."""
        for weight in (self.input, *self.up, *self.down):
            lecun_normal(weight, weight[0].numel(), generator)
        for forward, backward in self.pairs():
            rotate(forward, backward, self.angle)

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Forward and backward kernels."""
        return list(zip(self.up, self.down, strict=True))

    def bind(self, x: Tensor) -> ConvSystem:
        """What the images contribute, and the kernels."""
        drive = _up(x, self.input, self.input_bias, 1)
        forward = list(zip(self.up, self.bias, strict=True))
        return ConvSystem(
            drive, self.layers, self.activation, self.n, forward, list(self.down), self.shapes
        )

    def rates(self) -> dict[str, float]:
        """Factors of the learning rate by name of a parameter."""
        if self.rate_factors is None:
            return {}
        first, *rest = self.rate_factors
        named = {"input": first, "input_bias": first}
        for k, factor in enumerate(rest):
            named |= {f"up.{k}": factor, f"down.{k}": factor, f"bias.{k}": factor}
        return named
