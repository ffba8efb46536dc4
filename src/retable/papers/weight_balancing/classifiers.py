"""Last layers: a fixed simplex ETF, and what is done to the rows of a trained one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def simplex_etf(n_classes: int, d: int, generator: torch.Generator) -> Tensor:
    """Rows of a simplex equiangular tight frame, ``(C, d)``: unit, centred, cosines -1 / (C - 1).

    ``W^T = U sqrt(C / (C - 1)) (I - 1 1^T / C)`` with orthonormal U, Haar distributed (QR of a
    normal matrix with the signs of R's diagonal, Mezzadri 2007).

    Raises:
        ValueError: where d is smaller than C.
    """
    if d < n_classes:
        raise ValueError(f"model.classifier: an ETF of {n_classes} classes needs as many features")
    normal = torch.randn(d, n_classes, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    q = q * r.diagonal().sign()
    centred = torch.eye(n_classes, dtype=torch.float64) - 1 / n_classes
    return (q @ centred * math.sqrt(n_classes / (n_classes - 1))).T.float()


class FixedETF(nn.Linear):
    """A dense layer whose weight is a simplex ETF that is not trained; its bias is."""

    def __init__(self, n_classes: int, d: int, generator: torch.Generator) -> None:
        super().__init__(d, n_classes)
        weight = simplex_etf(n_classes, d, generator)
        del self.weight
        self.register_buffer("weight", weight)
        with torch.no_grad():
            self.bias.uniform_(-1 / d, 1 / d, generator=generator)


def max_norm_radius(weight: Tensor, share: float) -> Tensor:
    """Radius of MaxNorm, ``min_k |w_k| + share (max_k |w_k| - min_k |w_k|)``, taken once."""
    norms = weight.norm(dim=1)
    return norms.min() + share * (norms.max() - norms.min())


def project(weight: Tensor, radius: Tensor | float) -> Tensor:
    """Rows ``(C, d)`` that are longer than the radius made as long; the others bit for bit."""
    norms = weight.norm(dim=1, keepdim=True)
    return torch.where(norms > radius, weight * (radius / norms.clamp(min=1e-30)), weight)


def normalised(weight: Tensor, tau: float) -> Tensor:
    """Rows divided by their norm to the power tau; 1 is the L2-normalised classifier."""
    return weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-30) ** tau
