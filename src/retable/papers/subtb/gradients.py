"""Bias and variance of minibatch gradients, on a table of free parameters.

With a table the gradient of a batch's loss is a sum of the trajectories' own gradients, each of
which touches the cells that it passes. They are computed once for many trajectories; the gradient
of every minibatch is then a sum of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.papers.subtb.hypergrid import HyperGrid
from retable.papers.subtb.networks import Table
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.rollout import GridPolicy
from retable.papers.subtb.visited import Visited


class _PerVisit(Table):
    """A copy of the table's row for each visited state, so that gradients stay apart."""

    def __init__(self, table: Tensor, cells: Tensor) -> None:
        super().__init__(1, 1)
        self.copies = table.detach().double()[cells].requires_grad_()

    def outputs(self, cells: Tensor, coordinates: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """The copies, which belong to ``cells``."""
        return self.copies


@dataclass(frozen=True)
class Gradients:
    """Gradients with respect to the forward logits, one row per trajectory.

    Attributes:
        sums: ``(B, S (D + 1))``, float64.
        weights: ``(B,)``; the gradient of a batch is the sum of its rows over that of its weights.
    """

    sums: Tensor
    weights: Tensor

    def whole(self) -> Tensor:
        """Of all trajectories as one batch, ``(S (D + 1),)``."""
        return self.sums.sum(0) / self.weights.sum()

    def minibatches(self, size: int) -> Tensor:
        """Of successive batches of ``size``, ``(B // size, S (D + 1))``."""
        n = len(self.sums) // size
        sums = self.sums[: n * size].view(n, size, -1).sum(1)
        return sums / self.weights[: n * size].view(n, size).sum(1, keepdim=True)


def per_trajectory(policy: GridPolicy, visited: Visited, objective: Objective) -> Gradients:
    """Gradients of an objective with respect to P_F's logits.

    log Z of trajectory balance is log F(s_0), so that all objectives are taken at the same
    parameters.

    Args:
        policy: on a table.
        visited: trajectories.
        objective: one whose loss is a mean over trajectories, or ``db``, one over transitions.

    Raises:
        TypeError: where the policy's network is not a table.
        ValueError: where a batch's gradient is no sum over trajectories.
    """
    grid, table = policy.grid, policy.network
    if not isinstance(table, Table):
        raise TypeError("gradients per trajectory need model.network=table")
    if objective.name == "subtb" and objective.weighting not in ("within", "equal_within"):
        raise ValueError(f"weighting '{objective.weighting}' ties the trajectories of a batch")
    copied = _PerVisit(table.weight, visited.cells)
    found = GridPolicy(grid, copied, learned_pb=policy.learned_pb).evaluate(visited)
    loss = objective.loss(replace(found, log_z=found.log_flow[:, 0]))
    weights = torch.ones_like(found.lengths) if objective.name != "db" else found.lengths
    (grad,) = torch.autograd.grad(loss * weights.sum(), copied.copies)
    return Gradients(_by_trajectory(grad, visited, grid), weights.double())


def _by_trajectory(grad: Tensor, visited: Visited, grid: HyperGrid) -> Tensor:
    n_actions = grid.n_actions
    width = grid.size * n_actions
    at = visited.owner * width + visited.cells * n_actions
    at = at.unsqueeze(1) + torch.arange(n_actions, device=grad.device)
    sums = grad.new_zeros(visited.size * width)
    sums.index_add_(0, at.flatten(), grad[:, :n_actions].flatten())
    return sums.view(visited.size, width)


@dataclass(frozen=True)
class Quality:
    """Quality of minibatch gradients of one size, against those of very large batches.

    Attributes:
        to_itself: mean cosine with the objective's own large-batch gradient.
        to_tb: mean cosine with trajectory balance's.
        variance: mean squared distance from the own large-batch gradient.
    """

    to_itself: float
    to_tb: float
    variance: float


def quality(found: Gradients, size: int, own: Tensor, tb: Tensor) -> Quality:
    """Of the minibatches of ``size`` trajectories; ``own`` and ``tb`` from other trajectories."""
    batches = found.minibatches(size)
    return Quality(
        to_itself=float(cosine(batches, own).mean()),
        to_tb=float(cosine(batches, tb).mean()),
        variance=float((batches - own).square().sum(1).mean()),
    )


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine along the last dimension."""
    return F.cosine_similarity(a, b, dim=-1, eps=1e-300)
