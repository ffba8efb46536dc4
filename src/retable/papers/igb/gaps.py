"""Improvable gap balancing: weights by how far each task's loss is from its end.

Dai, Fei, Lu (UAI 2023), Sections 3.2 and 3.3. The end is taken as 0 and losses are divided by base
losses b, so that the gap of a task is ``l_i / b_i``; both versions minimise ``sum w_i log l_i``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from retable.papers.igb.losses import Balancer
from retable.papers.igb.sac import SoftActorCritic


class Based(Balancer):
    """Base: keeps b, the mean losses of the training batches of one early epoch.

    Args:
        n_tasks: n.
        base_epoch: that epoch, counted from 0.
    """

    base: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, n_tasks: int, *, base_epoch: int = 1) -> None:
        super().__init__(n_tasks, scale_invariant=True)
        self.base_epoch = base_epoch
        self.register_buffer("base", torch.zeros(n_tasks))  # not known yet
        self.register_buffer("total", torch.zeros(n_tasks))
        self.register_buffer("count", torch.zeros(()))

    @property
    def known(self) -> bool:
        """Whether the epoch of b has ended."""
        return bool(self.base[0] > 0)

    def forward(self, losses: Tensor) -> Tensor:
        """Balanced losses; the raw ones are added up for b."""
        self.total += losses.detach()
        self.count += 1
        return super().forward(losses)

    def end_epoch(self, epoch: int) -> None:
        """Fix b at the end of its epoch."""
        if epoch == self.base_epoch:
            self.base = self.total / self.count
        self.total.zero_()
        self.count.zero_()


class IGBv1(Based):
    """``w = n softmax(l / b)`` of the present batch; 1 before b is known."""

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights that grow with a task's gap."""
        if not self.known:
            return torch.ones_like(losses)
        return self.n_tasks * (losses / self.base).softmax(0)


class IGBv2(Based):
    """Weights that a soft actor-critic chooses, rewarded by the worst relative decrease.

    Random weights in the first `START` epochs. A transition is stored in each step once b is known;
    the agent is trained from `TRAIN_AFTER` epochs on, every `TRAIN_EVERY` steps.

    Args:
        n_tasks: n.
        base_epoch: epoch of b, counted from 0.
        density: of an action in the agent's entropy: with the Jacobian of tanh, as coded, though
            the action is a softmax, or that of the Gaussian before the softmax.
    """

    START = 5
    TRAIN_AFTER = 3
    TRAIN_EVERY = 50
    last_losses: Tensor
    last_weights: Tensor
    step: Tensor

    def __init__(
        self, n_tasks: int, *, base_epoch: int = 1, density: Literal["tanh", "gaussian"] = "tanh"
    ) -> None:
        super().__init__(n_tasks, base_epoch=base_epoch)
        self.agent = SoftActorCritic(n_tasks, density=density)
        self.register_buffer("last_losses", torch.zeros(n_tasks))
        self.register_buffer("last_weights", torch.zeros(n_tasks))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.steps_per_epoch = 1
        self.reward_scale = 1.0

    def reward(self, losses: Tensor) -> Tensor:
        """``rho min_i (l_{t-1,i} - l_{t,i}) / b_i``, scalar, of the present losses ``(n,)``."""
        return self.reward_scale * ((self.last_losses - losses) / self.base).min()

    def weigh(self, losses: Tensor) -> Tensor:
        """Store the last step's transition, train the agent if it is due, choose weights."""
        step = int(self.step)
        if self.known:
            self.agent.store(self.last_losses, self.last_weights, self.reward(losses), losses)
        if step >= self.TRAIN_AFTER * self.steps_per_epoch and step % self.TRAIN_EVERY == 0:
            self.agent.learn(self.TRAIN_EVERY)
        if step < self.START * self.steps_per_epoch:
            weights = self.n_tasks * torch.randn(self.n_tasks).to(losses).softmax(0)
        else:
            weights = self.agent.act(losses)
        self.last_losses.copy_(losses)
        self.last_weights.copy_(weights)
        self.step += 1
        return weights

    def private_state(self) -> dict[str, Any]:
        """That of the agent's optimisers."""
        return {"agent": self.agent.optimizer_state()}

    def load_private_state(self, state: dict[str, Any]) -> None:
        """Take it."""
        self.agent.load_optimizer_state(state["agent"])
