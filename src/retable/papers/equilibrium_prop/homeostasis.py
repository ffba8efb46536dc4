"""The homeostatic loss on the antisymmetric part of the Jacobian, and measures of symmetry."""

from __future__ import annotations

import torch
from torch import Tensor

from retable.papers.equilibrium_prop.systems import Net, System


def homeostatic(system: System, s: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Estimate of ``2 ||A||_F^2 / n``, the mean over items and draws, a scalar.

    ``(||J e||^2 - e^T J J e) / n`` with standard normal e; ``J = dH/ds - 1`` at the activated state
    s, which is held: no gradient goes through the relaxation. ``A = (J - J^T) / 2``.

    Args:
        system: of the batch, with gradients of the weights.
        s: activated state ``(B, n)``, without a gradient.
        draws: of e for every item.
        generator: on the device of s.
    """
    total = s.new_zeros(())
    for _ in range(draws):
        e = torch.randn(s.shape, generator=generator, device=s.device, dtype=s.dtype)
        one = system.push(s, e) - e
        two = system.push(s, one) - one
        total = total + (one.square() - e * two).sum(1).mean()
    return total / (draws * system.n)


def expected(jacobian: Tensor) -> Tensor:
    """The same in expectation where J does not depend on the state: ``||J - J^T||_F^2 / (2 n)``."""
    return (jacobian - jacobian.T).square().sum() / (2 * len(jacobian))


def symmetry(jacobian: Tensor) -> Tensor:
    """``S / (S + A)`` of ``J = dH/ds - 1``: norms of its symmetric and antisymmetric part."""
    j = jacobian - torch.eye(len(jacobian), dtype=jacobian.dtype, device=jacobian.device)
    s, a = (j + j.T).norm() / 2, (j - j.T).norm() / 2
    return s / (s + a)


@torch.no_grad()
def angle(net: Net) -> Tensor | None:
    """Between forward and backward weights, pooled over all pairs, in degrees; None of no pairs."""
    pairs = net.pairs()
    if not pairs:
        return None
    forward, backward = (torch.cat([p[i].flatten() for p in pairs]) for i in (0, 1))
    cosine = (forward @ backward) / (forward.norm() * backward.norm())
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of every item's two vectors, ``(B,)``; not a number where one is zero."""
    return (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
