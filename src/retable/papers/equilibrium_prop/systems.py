"""A network with a batch: the vector field, with what stays the same while a state relaxes.

A state is one tensor ``(B, n)``, the layers side by side: u, or activated ``s = sigma(u)``. The
field is ``F(u) = H(s; theta, x) - u``, so that a step of length 1 is ``u <- H(sigma(u))``. The
weights are real; a complex state goes through every linear map as its two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from retable.papers.equilibrium_prop.activations import Activation

Pull = Callable[[Tensor], Tensor]
Block = tuple[slice, slice, Tensor]
"""Neurons that are driven, those that drive them, and the weights ``(driven, driving)``."""


def by_parts(linear: Callable[[Tensor], Tensor], s: Tensor) -> Tensor:
    """A real linear map of a state that may be complex."""
    if not s.is_complex():
        return linear(s)
    return torch.complex(linear(s.real.contiguous()), linear(s.imag.contiguous()))


@dataclass(frozen=True)
class System:
    """Base: what the phases need of a network.

    Attributes:
        drive: what the input contributes, ``(B, d)``.
        layers: places of every layer's neurons in a state.
        activation: sigma.
        n: neurons.
    """

    drive: Tensor
    layers: Mapping[str, slice]
    activation: Activation
    n: int

    def field(self, s: Tensor, out: Tensor | None = None) -> Tensor:
        """``H(s)``, ``(B, n)``.

        Args:
            s: activated state.
            out: may be written into where no gradient is wanted; never s itself.
        """
        raise NotImplementedError

    def detached(self) -> Self:
        """The same without gradients of the weights."""
        raise NotImplementedError

    def repeated(self, times: int) -> Self:
        """For so many states of every item, one batch below the other."""
        return replace(self, drive=self.drive.repeat(times, *[1] * (self.drive.dim() - 1)))

    def both(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """``H(s)`` and ``dH/ds v``."""
        value, derivative, *_ = torch.func.jvp(self.field, (s,), (v,))
        return value, derivative

    def push(self, s: Tensor, v: Tensor) -> Tensor:
        """``dH/ds v``."""
        return self.both(s, v)[1]

    def pull(self, s: Tensor) -> Pull:
        """The map ``d -> (dH/ds)^T d`` at a state."""
        back: Callable[[Tensor], tuple[Tensor]] = torch.func.vjp(self.field, s)[1]
        return lambda d: back(d)[0]

    def zeros(self) -> Tensor:
        """The state u = 0."""
        return self.drive.new_zeros(len(self.drive), self.n)


@dataclass(frozen=True)
class DenseSystem(System):
    """``H(s) = W s + drive``.

    Attributes:
        blocks: of W; every neuron is driven by exactly one of them, in the order of neurons.
    """

    blocks: Sequence[Block]

    def field(self, s: Tensor, out: Tensor | None = None) -> Tensor:
        """``W s + drive``."""
        if s.is_complex():
            real = self.field(s.real.contiguous())
            return torch.complex(real, self.push(s, s.imag.contiguous()))
        if out is not None:
            for post, pre, weight in self.blocks:
                torch.addmm(self.drive[:, post], s[:, pre], weight.T, out=out[:, post])
            return out
        parts = [
            torch.addmm(self.drive[:, post], s[:, pre], weight.T)
            for post, pre, weight in self.blocks
        ]
        return torch.cat(parts, 1)

    def push(self, s: Tensor, v: Tensor) -> Tensor:
        """``W v``."""
        return torch.cat([v[:, pre] @ weight.T for _, pre, weight in self.blocks], 1)

    def both(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """``W s + drive`` and ``W v``, of one product."""
        of_s, of_v = self.push(s, torch.cat([s, v])).split(len(s))
        return of_s + self.drive, of_v

    def pull(self, s: Tensor) -> Pull:
        """``d -> W^T d``."""

        def back(d: Tensor) -> Tensor:
            found = torch.zeros_like(d)
            for post, pre, weight in self.blocks:
                found[:, pre] += d[:, post] @ weight
            return found

        return back

    def detached(self) -> DenseSystem:
        """The same without gradients of the weights."""
        blocks = [(post, pre, weight.detach()) for post, pre, weight in self.blocks]
        return replace(self, drive=self.drive.detach(), blocks=blocks)


class Net(nn.Module):
    """Base of the networks.

    Attributes:
        layers: places of every layer's neurons in a state, the last one being ``out``.
        activation: sigma.
        n: neurons.
        n_out: neurons of the last layer.
    """

    layers: Mapping[str, slice]
    activation: Activation
    n: int
    n_out: int

    def draw(self, generator: torch.Generator) -> None:
        """Draw initial weights, and turn the backward ones to the angle."""
        raise NotImplementedError

    def bind(self, x: Tensor) -> System:
        """The system of a batch of images ``(B, C, H, W)``, with gradients of the weights."""
        raise NotImplementedError

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Forward weights, and the backward ones of the same connection in the same order."""
        raise NotImplementedError

    def jacobian(self) -> Tensor | None:
        """dH/ds as a matrix ``(n, n)``; None where it depends on the state."""
        return None

    def rates(self) -> dict[str, float]:
        """Factors of the learning rate by name of a parameter; those left out have 1."""
        return {}
