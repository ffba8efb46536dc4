"""The convolutional network computed faster: both convolutions of a layer are one.

A state has its channels last, and a pooled window its four sites first: pooling is then a softmax
over the first dimension. The linearised field is written out instead of left to forward mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.papers.equilibrium_prop.conv import Conv, ConvSystem
from retable.papers.equilibrium_prop.systems import by_parts


def sites_of(v: Tensor) -> Tensor:
    """The four sites of every window of 2 x 2: ``(B, C, 2 h, 2 w) -> (4, B, h, w, C)``."""
    b, c, height, width = v.shape
    parts = v.permute(0, 2, 3, 1).reshape(b, height // 2, 2, width // 2, 2, c)
    return parts.permute(2, 4, 0, 1, 3, 5).reshape(4, b, height // 2, width // 2, c)


def image_of(q: Tensor) -> Tensor:
    """The inverse, ``(4, B, h, w, C) -> (B, C, 2 h, 2 w)``."""
    _, b, h, w, c = q.shape
    image = q.view(2, 2, b, h, w, c).permute(2, 3, 0, 4, 1, 5).reshape(b, 2 * h, 2 * w, c)
    return image.permute(0, 3, 1, 2)


def softmax(q: Tensor) -> Tensor:
    """Over the sites, for complex numbers too."""
    if not q.is_complex():
        return torch.softmax(q, 0)
    p = (q - q.real.amax(0).detach()).exp()
    return p / p.sum(0)


def pool(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p, ``pooled = sum p q`` and its derivative ``p (1 + q - pooled)``."""
    p = softmax(q)
    pooled = (p * q).sum(0)
    return p, pooled, p * (1 + q - pooled)


@dataclass(frozen=True)
class JointSystem(ConvSystem):
    """:class:`ConvSystem` with states ``(B, h, w, C)``, though ``shapes`` are ``(C, h, w)``.

    Of ``forward`` only the biases are used.

    Attributes:
        joint: kernels of both convolutions of a layer, forward ones before those of the feedback.
    """

    joint: tuple[Tensor, ...]

    def field(self, s: Tensor, out: Tensor | None = None) -> Tensor:
        """``H(s)``; ``out`` is left alone."""
        states = self._states(s)
        fields = [self.drive]
        for k, (_, bias) in enumerate(self.forward):
            q = self._up(k, states[k])
            fields.append(pool(q[..., : len(bias)] + bias)[1])
            slope = pool(q[..., len(bias) :])[2]
            fields[k] = fields[k] + self._down(k, slope * states[k + 1])
        return _flat(fields)

    def both(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """``H(s)`` and ``dH/ds v``, of the same products.

        With q what is pooled and dq its change: upwards ``d pooled = sum slope dq``. What comes
        back is the slope times the state above; ``bent`` is the change of the slope ``p t``, where
        ``t = 1 + q - pooled``: ``dp t + p dt``, with ``dp = p (dq - sum p dq)``.
        """
        b, states, tangents = len(s), self._states(s), self._states(v)
        fields, along = [self.drive], [torch.zeros_like(tangents[0])]
        for k, (_, bias) in enumerate(self.forward):
            q, dq = self._up(k, torch.cat([states[k], tangents[k]])).split(b, 1)
            n = len(bias)
            _, pooled, slope = pool(q[..., :n] + bias)
            fields.append(pooled)
            along.append((slope * dq[..., :n]).sum(0))
            q, dq = q[..., n:], dq[..., n:]
            p, pooled, slope = pool(q)
            dp = p * (dq - (p * dq).sum(0))
            bent = dp * (1 + q - pooled) + p * (dq - (slope * dq).sum(0))
            high, dhigh = states[k + 1], tangents[k + 1]
            down = self._down(k, torch.cat([slope * high, bent * high + slope * dhigh], 1))
            fields[k], along[k] = fields[k] + down[:b], along[k] + down[b:]
        return _flat(fields), _flat(along)

    def detached(self) -> Self:
        """The same without gradients of the weights."""
        return self._of(super().detached(), lambda weight: weight.detach())

    def to(self, dtype: torch.dtype) -> Self:
        """The same in another type, for a free phase in half precision."""
        return self._of(super().to(dtype), lambda weight: weight.to(dtype))

    def _of(self, base: ConvSystem, change: Callable[[Tensor], Tensor]) -> Self:
        joint = tuple(change(weight) for weight in self.joint)
        return replace(self, drive=base.drive, forward=base.forward, back=base.back, joint=joint)

    def _states(self, s: Tensor) -> list[Tensor]:
        places = zip(self.layers.values(), self.shapes, strict=True)
        return [s[:, place].view(len(s), h, w, c) for place, (c, h, w) in places]

    def _padding(self, k: int) -> int:
        return int(k < len(self.forward) - 1)  # the last one is valid, the others keep size

    def _up(self, k: int, low: Tensor) -> Tensor:
        def convolve(part: Tensor) -> Tensor:
            return F.conv2d(part.permute(0, 3, 1, 2), self.joint[k], padding=self._padding(k))

        return sites_of(by_parts(convolve, low))

    def _down(self, k: int, q: Tensor) -> Tensor:
        def convolve(part: Tensor) -> Tensor:
            return F.conv_transpose2d(part, self.back[k], padding=self._padding(k))

        return by_parts(convolve, image_of(q)).permute(0, 2, 3, 1)


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten(1) for part in parts], 1)


class JointConv(Conv):
    """:class:`Conv` with the same parameters, whose states have their channels last."""

    def bind(self, x: Tensor) -> JointSystem:
        """What the images contribute, and the kernels."""
        given = F.conv2d(x, self.input, self.input_bias, padding=1)
        return JointSystem(
            drive=pool(sites_of(given))[1],
            layers=self.layers,
            activation=self.activation,
            n=self.n,
            forward=list(zip(self.up, self.bias, strict=True)),
            back=list(self.down),
            shapes=self.shapes,
            joint=tuple(torch.cat(pair) for pair in self.pairs()),
        )
