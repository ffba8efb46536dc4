"""Geometry of features by class: Fisher's discriminant ratio, cosines, and what theory says.

Features are ``(N, d)``, labels ``(N,)``; sums are taken in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CONSTANT = 1e-3
"""Share of the mean feature by which a dimension has to vary somewhere, as in the authors' code."""


def class_means(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of every class ``(C, d)`` and items of every class ``(C,)``, in float64."""
    n = torch.bincount(labels, minlength=n_classes).double()
    sums = torch.zeros(n_classes, features.shape[1], dtype=torch.float64, device=features.device)
    sums.index_add_(0, labels, features.double())
    return sums / n[:, None], n


def fisher_ratio(features: Tensor, labels: Tensor) -> float:
    """Fisher's discriminant ratio, ``tr(S_W^-1 S_B)``.

    ``S_B = sum_k N_k (mu_k - mu)(mu_k - mu)^T`` and ``S_W = sum_i (f_i - mu_y)(f_i - mu_y)^T``.
    Dimensions that are nearly constant are left out before, and those without any scatter within
    the classes after; directions in which the rest has none are left out as well, where the
    authors' code gives no number. NaN where nothing is left.
    """
    f = features.double()
    varies = (f - f[0]).abs() > _CONSTANT * f.mean().abs()
    f = f[:, varies.any(0)]
    if f.shape[1] == 0:
        return math.nan
    _, labels = labels.unique(return_inverse=True)
    means, n = class_means(f, labels, int(labels.max()) + 1)
    within = f - means[labels]
    between = (means - f.mean(0)) * n.sqrt()[:, None]
    s_w = within.T @ within
    used = s_w.diagonal() > 1e-12 * s_w.diagonal().max().clamp(min=1e-300)
    if not used.any():
        return math.nan
    s_w, between = s_w[used][:, used], between[:, used]
    # By its eigenvalues: a duplicate of a dimension makes S_W singular, and says nothing new.
    values, vectors = torch.linalg.eigh(s_w)
    kept = values > values[-1] * len(values) * torch.finfo(torch.float64).eps
    seen = between @ vectors[:, kept]
    return float((seen.square() / values[kept]).sum())


def cosine_map(features: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Mean cosine between a feature of one class and one of another, ``(C, C)``.

    The mean over pairs is the inner product of the mean unit features. An item's cosine with itself
    is part of its class's own entry.
    """
    f = features.double()
    means, _ = class_means(f / f.norm(dim=1, keepdim=True).clamp(min=1e-12), labels, n_classes)
    return means @ means.T


def between_classes(cosines: Tensor) -> float:
    """Mean of the entries of a cosine map that are of two classes."""
    n = len(cosines)
    return float((cosines.sum() - cosines.trace()) / (n * (n - 1)))


def cosine_bound(error: float, largest_norm: float, n_classes: int) -> float:
    """Bound on cosines of two fitted items of different classes, by an ETF without bias.

    With unit rows of the classifier, features not longer than L and ``1 - p_y <= error < 1 / C``,
    ``delta = (C - 1) / (C L) log((C - 1)(1 - error) / error)`` is a lower bound of the cosine with
    the own row, and where it is above ``1 / sqrt(2)`` that of two classes is at most
    ``2 delta sqrt(1 - delta^2)``. Otherwise nothing is said: 1.
    """
    share = (n_classes - 1) / n_classes
    delta = share / largest_norm * math.log((n_classes - 1) * (1 - error) / error)
    if not math.sqrt(0.5) < delta <= 1:
        return 1.0
    return 2 * delta * math.sqrt(1 - delta**2)


def decayed_classifier(means: Tensor, weights: Tensor, n_per_class: Tensor, decay: float) -> Tensor:
    """Classifier of collapsed features under strong weight decay, to first order, ``(C, d)``.

    ``w_k = (c_k N_k mu_k - (1 / C) sum_l c_l N_l mu_l) / (decay N)`` minimises
    ``(1 / N) sum_i c_y CE_i + decay / 2 |W|^2`` without bias up to ``O(decay^-2)``.

    Args:
        means: of the classes, mu, ``(C, d)``.
        weights: of the classes in the loss, c, ``(C,)``.
        n_per_class: N_k, ``(C,)``.
        decay: lambda.
    """
    pulled = (weights * n_per_class)[:, None] * means
    return (pulled - pulled.mean(0)) / (decay * n_per_class.sum())
