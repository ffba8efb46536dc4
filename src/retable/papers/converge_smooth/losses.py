"""Cross-entropy with soft targets, and what the losses of fast adversarial training add to it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_targets(labels: Tensor, n_classes: int, factor: float) -> Tensor:
    """Targets ``(B, K)``: ``factor`` for the label, the rest shared by the other classes."""
    rest = (1 - factor) / (n_classes - 1)
    targets = torch.full((len(labels), n_classes), rest, device=labels.device)
    return targets.scatter_(1, labels[:, None], factor)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each item, ``(B,)``, for logits and targets ``(B, K)``.

    Its least value is the targets' entropy (:func:`least_loss`).
    """
    return -(targets * F.log_softmax(logits, 1)).sum(1)


def least_loss(n_classes: int, factor: float) -> float:
    """Entropy of a row of :func:`soft_targets` in nats: 1.552 for ten classes and 0.6."""
    rest = (1 - factor) / (n_classes - 1)
    others = (n_classes - 1) * rest * math.log(rest) if rest else 0.0
    return -(factor * math.log(factor) + others)


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit less the label's, of each item, ``(B,)`` (Carlini and Wagner)."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.max(1).values - own


def unaligned(first: Tensor, second: Tensor) -> Tensor:
    """1 less the mean cosine of two gradients per image ``(B, ...)`` (GradAlign)."""
    return 1 - F.cosine_similarity(first.flatten(1), second.flatten(1), dim=1).mean()
