"""Weights of a scale-invariant network, kept on a sphere around the origin."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def norm(weights: Iterable[Tensor]) -> Tensor:
    """Euclidean norm of all weights as one vector, a scalar."""
    return torch.stack([weight.detach().norm() for weight in weights]).norm()


@torch.no_grad()
def project(weights: Iterable[Tensor], radius: float) -> None:
    """Scale all weights by one number, so that their norm is the radius."""
    found = list(weights)
    scale = radius / norm(found)
    for weight in found:
        weight.mul_(scale)
