"""Phases of the dynamics: free, nudged, tangent, and the adjoint of recurrent backpropagation.

The code's sign is kept: a nudge adds ``+beta c`` to the field, with ``c = dL/ds_out`` at the
present state, and what is estimated, ``s' = d sigma(u*)/d beta``, takes the place of the adjoint
``delta`` in ``dL/dtheta = (dF/dtheta)^T delta``. Both are equal where dH/ds is symmetric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from retable.papers.equilibrium_prop.activations import activate, slope
from retable.papers.equilibrium_prop.systems import System


@dataclass(frozen=True)
class Readout:
    """A linear softmax readout of the last layer, and the labels of a batch.

    Attributes:
        weight: R, ``(K, n_out)``.
        bias: r, ``(K,)``.
        target: labels as ones and zeros, ``(B, K)``.
        place: of the last layer in a state.
    """

    weight: Tensor
    bias: Tensor
    target: Tensor
    place: slice

    def pull(self, s: Tensor) -> Tensor:
        """``c = R^T (softmax(R s_out + r) - y)``, ``(B, n_out)``, holomorphic in s.

        An autograd call would give the conjugate for a complex state.
        """
        out = s[:, self.place]
        weight = self.weight.to(out.dtype)
        z = out @ weight.T + self.bias
        z = (z - z.real.amax(1, keepdim=True)).exp_()
        return (z / z.sum(1, keepdim=True) - self.target) @ weight

    def repeated(self, times: int) -> Readout:
        """For so many states of every item."""
        target = self.target.repeat(times, 1)
        return Readout(self.weight, self.bias, target, self.place)


def relax(
    system: System,
    u: Tensor,
    steps: int,
    *,
    stop: float | None = None,
    readout: Readout | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    """The state after some steps of length 1, ``(B, n)``.

    Args:
        system: of the batch.
        u: state to begin with; not changed.
        steps: at most so many.
        stop: end once no number of the state has changed by more than this in a step.
        readout: what nudges; None for a free phase.
        beta: strength of the nudge, ``(B, 1)``, real or complex as u is.
    """
    # Two buffers: a step reads one and writes the other, and what it read is the state before.
    u, other, s = u.clone(), torch.empty_like(u), torch.empty_like(u)
    for _ in range(steps):
        s = activate(system.activation, u, s)
        new = system.field(s, other)
        if readout is not None and beta is not None:
            new[:, readout.place] += beta * readout.pull(s)
        if stop is not None and bool((new - u).abs().amax() <= stop):
            return new
        u, other = new, u
    return u


def residual(system: System, u: Tensor) -> Tensor:
    """``||F(u)||`` of every item, ``(B,)``."""
    return (system.field(activate(system.activation, u)) - u).norm(dim=1)


def tangent(system: System, u: Tensor, steps: int, readout: Readout) -> Tensor:
    """N = 0: the derivative of ``sigma(u_T(beta))`` in beta at 0, ``(B, n)``, in forward mode.

    ``v <- dH/ds sigma'(u) v + c`` along the free dynamics from u, with v = 0 at first.
    """
    v = torch.zeros_like(u)
    for _ in range(steps):
        s = activate(system.activation, u)
        c = readout.pull(s)
        u, v = system.both(s, slope(system.activation, u, s) * v)
        v[:, readout.place] += c
    return slope(system.activation, u) * v


def adjoint(system: System, u: Tensor, steps: int, readout: Readout) -> Tensor:
    """Recurrent backpropagation: ``delta = -J_u^-T g_u``, ``(B, n)``, the state held.

    ``delta <- delta + J_u^T delta + g_u``, from 0: with ``J_u = dH/ds D - 1`` it is
    ``D ((dH/ds)^T delta + c)``.
    """
    s = activate(system.activation, u)
    d = slope(system.activation, u, s)
    c, pull = readout.pull(s), system.pull(s)
    delta = torch.zeros_like(u)
    for _ in range(steps):
        found = pull(delta)
        found[:, readout.place] += c
        delta = d * found
    return delta


def cauchy_points(points: int, amplitude: float) -> tuple[list[float], list[complex]]:
    """Nudges ``|beta| exp(2 pi i k / N)`` that suffice: the real ones, those above the real axis.

    What is below it is conjugate to what is above.
    """
    real = [amplitude, -amplitude] if points % 2 == 0 else [amplitude]
    above = [
        complex(math.cos(angle), math.sin(angle)) * amplitude
        for angle in (2 * math.pi * k / points for k in range(1, (points + 1) // 2))
    ]
    return real, above


def nudged(
    system: System, u: Tensor, steps: int, readout: Readout, points: int, amplitude: float
) -> Tensor:
    """The vector s' of N nudged phases from the free state u, ``(B, n)``.

    N = 1: ``(s_beta - s*) / beta``. Else ``1/N sum_k s_k / beta_k``: the trapezoid rule of Cauchy's
    integral. All real phases are one batch, and so are all complex ones.
    """
    real, above = cauchy_points(points, amplitude)
    found = torch.zeros_like(u)
    if points == 1:
        found -= activate(system.activation, u) / amplitude
    for betas, dtype in ((real, u.dtype), (above, u.dtype.to_complex())):
        if not betas:
            continue
        k = len(betas)
        beta = torch.tensor(betas, dtype=dtype, device=u.device).repeat_interleave(len(u))[:, None]
        many = relax(
            system.repeated(k), u.to(dtype).repeat(k, 1), steps,
            readout=readout.repeated(k), beta=beta,
        )  # fmt: skip
        parts = (activate(system.activation, many) / beta).view(k, *u.shape).sum(0)
        if dtype.is_complex:
            # One that has overflowed counts as nothing, as in the authors' code.
            found += torch.view_as_real(parts).nan_to_num(0.0, 0.0, 0.0)[..., 0] * 2 / points
        else:
            found += parts / points
    return found


@dataclass(frozen=True)
class Online:
    """Means over a nudge that goes round without pause.

    Attributes:
        turns: full turns.
        points: of a turn, at each of which the nudge stays for the steps of a nudged phase.
        amplitude: |beta|.
    """

    turns: int
    points: int
    amplitude: float


def online(system: System, steps: int, readout: Readout, how: Online) -> tuple[Tensor, Tensor]:
    """Mean state and mean ``s / beta``, ``(B, n)`` each, which stand for u* and s'.

    From u = 0 the state goes on from one nudge to the next, without a free phase.
    """
    start = system.zeros()
    u = start.to(start.dtype.to_complex())
    mean, amplitude = torch.zeros_like(u), torch.zeros_like(u)
    n = how.turns * how.points
    for k in range(n):
        angle = 2 * math.pi * k / how.points
        number = complex(math.cos(angle), math.sin(angle)) * how.amplitude
        beta = torch.full((len(u), 1), number, dtype=u.dtype, device=u.device)
        u = relax(system, u, steps, readout=readout, beta=beta)
        mean += u / n
        amplitude += activate(system.activation, u) / (beta * n)
    # A state that has overflowed, at a pole of the activation, counts as nothing.
    return mean.real.nan_to_num(0.0, 0.0, 0.0), amplitude.real.nan_to_num(0.0, 0.0, 0.0)
