"""Soft actor-critic whose action is a vector of task weights, ``n softmax(u)``.

Haarnoja et al.: Soft Actor-Critic Algorithms and Applications (2018), Sections 4 and 5, with two
critics, target critics and a learned temperature, as the code of IGBv2 has it.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 128
LOG_STD = (-20.0, 2.0)


class Batch(NamedTuple):
    """Transitions: states ``(B, n)``, actions ``(B, n)``, rewards ``(B, 1)``, next states."""

    state: Tensor
    action: Tensor
    reward: Tensor
    following: Tensor


class Actor(nn.Module):
    """Policy ``u ~ N(mu(s), sigma(s)^2)``; the action is ``n softmax(u)``.

    Args:
        n: numbers of a state, and of an action.
        density: as :class:`retable.papers.igb.gaps.IGBv2` has it.
    """

    def __init__(self, n: int, *, density: Literal["tanh", "gaussian"] = "tanh") -> None:
        super().__init__()
        self.n = n
        self.squashed = density == "tanh"
        self.body = nn.Sequential(
            nn.Linear(n, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.mean = nn.Linear(WIDTH, n)
        self.log_std = nn.Linear(WIDTH, n)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """An action ``(..., n)`` and its log density ``(..., 1)`` at states ``(..., n)``."""
        hidden = self.body(state)
        mean, log_std = self.mean(hidden), self.log_std(hidden).clamp(*LOG_STD)
        noise = torch.randn(mean.shape, dtype=mean.dtype).to(mean.device)
        u = mean + log_std.exp() * noise
        # Of u = mean + std * noise the Gaussian's log density is that of the noise less log std.
        density = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1, True)
        if self.squashed:
            density = density - (2 * (math.log(2) - u - F.softplus(-2 * u))).sum(-1, True)
        return self.n * u.softmax(-1), density


class TwinCritic(nn.Module):
    """Two perceptrons of states and actions at once, each with weights of its own."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in ((2 * n, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)):
            bound = 1 / math.sqrt(inputs)  # as nn.Linear begins
            self.weight.append(torch.empty(2, inputs, outputs).uniform_(-bound, bound))
            self.bias.append(torch.empty(2, 1, outputs).uniform_(-bound, bound))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Values ``(2, B, 1)``."""
        x = torch.cat((state, action), 1).expand(2, -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            x = torch.baddbmm(bias, F.relu(x) if i else x, weight)
        return x


class SoftActorCritic(nn.Module):
    """Agent with its memory of transitions.

    Args:
        n: tasks.
        density: as :class:`retable.papers.igb.gaps.IGBv2` has it.
        capacity: of the memory, a ring.
    """

    BATCH = 256
    DISCOUNT = 0.99
    POLYAK = 0.005
    RATE = 3e-4
    memory: Tensor
    stored: Tensor

    def __init__(
        self, n: int, *, density: Literal["tanh", "gaussian"] = "tanh", capacity: int = 10_000
    ) -> None:
        super().__init__()
        self.n, self.capacity = n, capacity
        self.actor = Actor(n, density=density)
        self.critic, self.target = TwinCritic(n), TwinCritic(n)
        self.target.load_state_dict(self.critic.state_dict())
        self.target.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(0.2)))
        self.register_buffer("memory", torch.zeros(capacity, 3 * n + 1))
        self.register_buffer("stored", torch.zeros((), dtype=torch.long))
        parts = (self.critic.parameters(), self.actor.parameters(), [self.log_alpha])
        self._optimizers = [torch.optim.Adam(part, lr=self.RATE, fused=True) for part in parts]

    @property
    def size(self) -> int:
        """Transitions in the memory."""
        return min(int(self.stored), self.capacity)

    def store(self, state: Tensor, action: Tensor, reward: Tensor, following: Tensor) -> None:
        """Keep a transition, in the place of the oldest where the memory is full."""
        row = torch.cat((state, action, reward.reshape(1), following))
        self.memory[int(self.stored) % self.capacity] = row
        self.stored += 1

    def learn(self, every: int) -> None:
        """``every k / 2`` updates on ``256 k / 2`` items, k 1 + the memory's filled share."""
        if not self.size:
            return
        k = 1 + self.size / self.capacity
        with torch.enable_grad():
            for _ in range(int(every * (k / 2))):
                rows = self.memory[torch.randint(0, self.size, (int(self.BATCH * (k / 2)),))]
                self.update(Batch(*rows.split((self.n, self.n, 1, self.n), 1)))

    @torch.no_grad()
    def act(self, state: Tensor) -> Tensor:
        """Weights ``(n,)`` drawn from the policy."""
        return self.actor(state)[0]

    def update(self, batch: Batch) -> None:
        """One step of critics, actor and temperature, then of the target critics."""
        critics, actors, alphas = self._optimizers
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            action, density = self.actor(batch.following)
            best = self.target(batch.following, action).amin(0)
            wanted = batch.reward + self.DISCOUNT * (best - alpha * density)
        error = (self.critic(batch.state, batch.action) - wanted).square().mean((1, 2)).sum()
        _step(critics, error)
        action, density = self.actor(batch.state)
        self.critic.requires_grad_(False)
        _step(actors, (alpha * density - self.critic(batch.state, action).amin(0)).mean())
        self.critic.requires_grad_(True)
        _step(alphas, -(self.log_alpha * (density.detach() - self.n).mean()))
        with torch.no_grad():
            for target, weight in zip(
                self.target.parameters(), self.critic.parameters(), strict=True
            ):
                target.lerp_(weight, self.POLYAK)

    def optimizer_state(self) -> list[dict[str, Any]]:
        """State of the optimisers of critics, actor and temperature."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_optimizer_state(self, states: list[dict[str, Any]]) -> None:
        """Take it."""
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
