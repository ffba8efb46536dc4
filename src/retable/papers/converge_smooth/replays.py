"""Free adversarial training (Shafahi et al. 2019): every batch is stepped on several times."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from retable.papers.converge_smooth.attacks import Perturbed


@dataclass
class Replays:
    """The perturbation, which goes on from one step to the next, and from batch to batch.

    Attributes:
        kept: perturbations by place in the batch; None before the first. A batch that is not full
            has the first of them.
    """

    kept: Tensor | None = None
    _at: Tensor | None = field(default=None, init=False)

    def begin(self, images: Tensor) -> Perturbed:
        """Images with the perturbation, a leaf whose gradient the backward pass fills."""
        kept = images[:0] if self.kept is None else self.kept.to(images.device)
        if (missing := len(images) - len(kept)) > 0:
            kept = torch.cat([kept, torch.zeros_like(images[:missing])])
        self.kept = kept
        self._at = (images + kept[: len(images)]).clamp(0, 1).requires_grad_()
        return Perturbed(self._at, self._at, self._at)

    def move(self, step: float, budget: float) -> None:
        """Step along the sign of the gradient that the backward pass has left."""
        assert self.kept is not None
        assert self._at is not None
        assert self._at.grad is not None
        moved = self.kept[: len(self._at)]
        moved += step * self._at.grad.sign()
        moved.clamp_(-budget, budget)
