"""Logit adjustment after training: by the classes' shares of the training set, to the power tau."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["additive", "multiplicative"]
KINDS: tuple[Kind, ...] = ("additive", "multiplicative")


def adjusted(logits: Tensor, n_per_class: Sequence[int], kind: Kind, tau: float) -> Tensor:
    """Adjusted logits ``(N, C)``: ``z_k - tau log pi_k``, or ``z_k pi_k^-tau``.

    Menon et al.: Long-tail learning via logit adjustment (ICLR 2021), eq. 9, for the first. The
    second depends on the zero of the logits.

    Args:
        logits: ``(N, C)``, with the bias.
        n_per_class: training items, of which pi are the shares.
        kind: of adjustment.
        tau: 0 changes nothing.
    """
    n = torch.tensor(list(n_per_class), dtype=torch.float64)
    shift = (-tau * (n / n.sum()).log()).to(logits.device)
    z = logits.double()
    return z + shift if kind == "additive" else z * shift.exp()


def class_accuracies(predicted: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Accuracy of every class ``(C,)``, in float64; NaN for a class without items."""
    right = (predicted == labels).double()
    sums = torch.zeros(n_classes, dtype=torch.float64, device=labels.device)
    n = torch.bincount(labels, minlength=n_classes)
    return sums.index_add_(0, labels, right) / n


def best_tau(
    logits: Tensor,
    labels: Tensor,
    n_per_class: Sequence[int],
    kind: Kind,
    grid: Sequence[float],
) -> float:
    """The tau of a grid with the best class-averaged accuracy; the smallest of several.

    Args:
        logits: of validation items, ``(N, C)``.
        labels: of the same.
        n_per_class: training items.
        kind: of adjustment.
        grid: values of tau.
    """

    def accuracy(tau: float) -> float:
        predicted = adjusted(logits, n_per_class, kind, tau).argmax(1)
        return float(class_accuracies(predicted, labels, len(n_per_class)).nanmean())

    return max(sorted(grid), key=accuracy)
