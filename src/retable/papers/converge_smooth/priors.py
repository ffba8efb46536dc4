"""Perturbations that begin where those of an earlier batch or epoch ended (Jia et al. 2022).

They are state of the training: what a checkpoint does not have, a resumed run would draw anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from retable.papers.converge_smooth.attacks import Loss, Net, Perturbed, gradient, noise

Kind = Literal["batch", "epoch", "momentum"]


@dataclass
class Prior:
    """Perturbations kept from batch to batch, or for each image from epoch to epoch.

    Args:
        kind: ``batch`` (FGSM-BP) begins with the previous batch's perturbation, ``epoch``
            (FGSM-EP) with the image's own of the epoch before, ``momentum`` (FGSM-MEP) with a step
            along the sign of a momentum of the image's gradients.
        budget: L-infinity radius.
        step: size of a step.
        decay: of the momentum.

    Attributes:
        kept: perturbations by image, or by place in the batch; None before the first epoch.
        momentum: of the gradients, as many.
    """

    kind: Kind
    budget: float
    step: float
    decay: float = 0.3
    kept: Tensor | None = field(default=None, init=False)
    momentum: Tensor | None = field(default=None, init=False)

    def reset(self, n: int, like: Tensor, generator: torch.Generator) -> None:
        """Corners of the budget's cube at random, and no momentum.

        Args:
            n: images of the set, or of a batch.
            like: images ``(B, C, H, W)``.
            generator: on the CPU.
        """
        shape = like.new_empty((n, *like.shape[1:]))
        corners = self.step * noise(shape, 1.0, generator).sign()
        self.kept = corners.clamp(-self.budget, self.budget)
        self.momentum = torch.zeros_like(shape) if self.kind == "momentum" else None

    def __call__(
        self, net: Net, images: Tensor, ids: Tensor, loss: Loss, *, keep: bool = False
    ) -> Perturbed:
        """Adversarial images, and keep what the next time begins with.

        Args:
            net: the network.
            images: in [0, 1], augmented or not; a kept perturbation is not moved with them.
            ids: places of the images in the set.
            loss: of each item; the mean over the batch is differentiated.
            keep: whether the logits at the start keep their graph.
        """
        assert self.kept is not None
        at = torch.arange(len(images), device=ids.device) if self.kind == "batch" else ids
        begun = self.kept[at]
        start = images + begun
        logits, found = gradient(net, start, loss, keep=keep)
        found = found / len(images)  # of the mean, as in the authors' code
        delta = self._inside(begun + self.step * found.sign(), images)
        following = delta
        if self.momentum is not None:
            # One norm for the whole batch: that of each image would weigh it against its past.
            momentum = found / found.abs().sum() + self.decay * self.momentum[at]
            self.momentum[at] = momentum
            following = self._inside(begun + self.step * momentum.sign(), images)
        self.kept[at] = following
        return Perturbed(start.detach(), logits, (images + delta).detach())

    def _inside(self, delta: Tensor, images: Tensor) -> Tensor:
        """Clipped to the budget, then so that the image stays in [0, 1]."""
        delta = delta.clamp(-self.budget, self.budget)
        return torch.minimum(torch.maximum(delta, -images), 1 - images)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold."""
        kept = {"kept": self.kept, "momentum": self.momentum}
        return {name: tensor for name, tensor in kept.items() if tensor is not None}

    def load(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Take what :meth:`state` gave."""
        self.kept = state["kept"].to(device)
        self.momentum = state["momentum"].to(device) if "momentum" in state else None
