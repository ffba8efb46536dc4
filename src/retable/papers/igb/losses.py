"""Loss balancing: task losses become the vector whose sum a step minimises.

Dai, Fei, Lu: Improvable Gap Balancing for Multi-Task Learning (UAI 2023). The baselines are as in
its authors' code, which is built on that of Nash-MTL.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SMALLEST = 1e-8
"""Losses are not below this where their logarithm is taken."""


def log_losses(losses: Tensor) -> Tensor:
    """Logarithms ``(n,)`` of losses, the scale-invariant (SI) objective of each task."""
    return losses.clamp_min(SMALLEST).log()


class Balancer(nn.Module):
    """Base: ``w_i l_i``, or ``w_i log l_i`` (SI); here with weights 1 (LS).

    No gradient flows into the weights. Their state lies in the ``state_dict``, so that a
    resumed run goes on with it.

    Args:
        n_tasks: n.
        scale_invariant: logarithms of the losses in their place.
    """

    weights: Tensor

    def __init__(self, n_tasks: int, *, scale_invariant: bool = False) -> None:
        super().__init__()
        self.n_tasks = n_tasks
        self.scale_invariant = scale_invariant
        self.register_buffer("weights", torch.ones(n_tasks))

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights ``(n,)`` of this step, of detached losses ``(n,)``."""
        return torch.ones_like(losses)

    def forward(self, losses: Tensor) -> Tensor:
        """Balanced losses ``(n,)`` of a step's losses ``(n,)``, all above 0."""
        self.weights = self.weigh(losses.detach()).detach()
        return self.weights * (log_losses(losses) if self.scale_invariant else losses)

    def learned(self) -> list[nn.Parameter]:
        """Parameters that the run's optimiser trains, at a rate of their own."""
        return []

    def end_epoch(self, epoch: int) -> None:
        """Called after the last step of each epoch, counted from 0."""

    def private_state(self) -> dict[str, Any]:
        """State that is not in the ``state_dict``: that of optimisers."""
        return {}

    def load_private_state(self, state: dict[str, Any]) -> None:
        """Take what :meth:`private_state` gave."""


class RandomWeights(Balancer):
    """RLW: ``w = n softmax(z)`` with z standard normal, anew in each step (Lin et al. 2022)."""

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights of one draw; torch's generator is set by seed and epoch."""
        return self.n_tasks * torch.randn(self.n_tasks).to(losses).softmax(0)


class DynamicWeightAverage(Balancer):
    """DWA: ``w = n softmax(r / 2)``, r the ratio of means of the last 25 losses and the 25 before.

    Liu, Johns, Davison (CVPR 2019) take epochs; the authors' code iterations, and has weights of 1
    in the first 26 steps; losses of 1 stand in for those before the first.
    """

    WINDOW = 25
    TEMPERATURE = 2.0
    seen: Tensor
    step: Tensor

    def __init__(self, n_tasks: int, *, scale_invariant: bool = False) -> None:
        super().__init__(n_tasks, scale_invariant=scale_invariant)
        self.register_buffer("seen", torch.ones(2 * self.WINDOW, n_tasks))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights by how slowly each task's loss falls."""
        self.seen = torch.cat((self.seen[1:], losses[None]))
        started = int(self.step) > self.WINDOW
        self.step += 1
        if not started:
            return self.weights
        ratios = self.seen[self.WINDOW :].mean(0) / self.seen[: self.WINDOW].mean(0)
        return self.n_tasks * (ratios / self.TEMPERATURE).softmax(0)


class Uncertainty(Balancer):
    """UW: ``l_i / (2 exp(s_i)) + s_i / 2`` with learned s (Kendall, Gal, Cipolla, CVPR 2018).

    With logarithms (UW+SI, as coded) the objective has no lower bound once a loss is below 1: s_i
    falls without end, and the weight ``1 / (2 exp(s_i))`` grows.
    """

    def __init__(self, n_tasks: int, *, scale_invariant: bool = False) -> None:
        super().__init__(n_tasks, scale_invariant=scale_invariant)
        self.log_variance = nn.Parameter(torch.zeros(n_tasks))

    def forward(self, losses: Tensor) -> Tensor:
        """Balanced losses, through which s is trained too."""
        self.weights = (-self.log_variance.detach()).exp() / 2
        values = log_losses(losses) if self.scale_invariant else losses
        return values / (2 * self.log_variance.exp()) + self.log_variance / 2

    def learned(self) -> list[nn.Parameter]:
        """The n numbers s."""
        return [self.log_variance]
