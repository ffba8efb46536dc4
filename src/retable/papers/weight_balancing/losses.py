"""Losses of long-tailed classification: logits ``(B, C)``, labels ``(B,)``; a scalar comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def class_balanced_weights(n_per_class: Sequence[int], beta: float) -> Tensor:
    """Weights by the effective number of items, ``(1 - beta) / (1 - beta^N_k)``, with sum C.

    Cui et al.: Class-Balanced Loss Based on Effective Number of Samples (CVPR 2019), eq. 6.
    """
    n = torch.tensor(list(n_per_class), dtype=torch.float64)
    weights = (1 - beta) / -torch.expm1(n * math.log(beta))
    return (weights * len(n) / weights.sum()).float()


def class_balanced(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean of ``c_y CE``, as the paper's code has it: not divided by the sum of the weights."""
    return (weights[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()


def class_balanced_binary(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of softmax probabilities, times ``c_y``, mean over items and classes.

    As the code of Alshammari et al. has it; about 1 / C of :func:`class_balanced`.
    """
    probabilities = F.softmax(logits, dim=1)
    target = F.one_hot(labels, logits.shape[1]).to(probabilities.dtype)
    loss = F.binary_cross_entropy(probabilities, target, reduction="none")
    return (weights[labels][:, None] * loss).mean()


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Mean of ``(1 - p_y)^gamma CE`` (Lin et al. 2017)."""
    log_p = F.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()


def dot_regression(logits: Tensor, labels: Tensor, features: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``(z_y - q)^2 / (2 q)`` with ``q = |f| |w_y|``, through which no gradient goes.

    Yang et al.: Inducing Neural Collapse in Imbalanced Learning (NeurIPS 2022), as coded.
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    q = (features.norm(dim=1) * weight.norm(dim=1)[labels]).detach().clamp(min=1e-12)
    return ((own - q) ** 2 / (2 * q)).mean()


def feature_regularisation(features: Tensor, zeta: float) -> Tensor:
    """``zeta / 2`` times the mean squared norm of the features ``(B, d)``."""
    return zeta / 2 * features.square().sum(1).mean()
