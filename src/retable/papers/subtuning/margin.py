"""Which images to label next: those of the smallest margin (v1 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

BUDGETS: tuple[int, ...] = (100, 400, 500, 1500, 2500, 5000)
"""Labels bought in turn, as in the authors' first code."""


def margins(probabilities: Tensor) -> Tensor:
    """Largest less second largest probability of each row: ``(N, C)``, C >= 2, to ``(N,)``."""
    top = probabilities.topk(2, 1).values
    return top[:, 0] - top[:, 1]


def choose(probabilities: Tensor, labelled: Tensor, n: int) -> Tensor:
    """Indices of the ``n`` images of the smallest margins, smallest first.

    Args:
        probabilities: ``(N, C)``, of all images.
        labelled: ``(N,)``, bool; these are never chosen.
        n: how many; of equal margins the lowest index comes first.

    Returns:
        ``(n,)``, each once.

    Raises:
        ValueError: where fewer are unlabelled.
    """
    rest = _unlabelled(labelled, n)
    return rest[margins(probabilities[rest]).argsort(stable=True)[:n]]


def random_choice(labelled: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Indices ``(n,)`` of ``n`` unlabelled images, each with the same chance; see `choose`."""
    rest = _unlabelled(labelled, n)
    order = torch.randperm(len(rest), generator=generator, device=generator.device)
    return rest[order[:n].to(rest.device)]


def _unlabelled(labelled: Tensor, n: int) -> Tensor:
    rest = (~labelled).nonzero()[:, 0]
    if not 0 <= n <= len(rest):
        raise ValueError(f"{n} images to be labelled, of {len(rest)} that are not")
    return rest
