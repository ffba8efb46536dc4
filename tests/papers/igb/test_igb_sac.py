"""The soft actor-critic: its density, memory and updates, and a bandit that it has to solve."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from retable.papers.igb.sac import Actor, Batch, SoftActorCritic, TwinCritic

Density = Literal["tanh", "gaussian"]


@pytest.mark.parametrize("density", ["tanh", "gaussian"])
def test_density_is_that_of_torch_s_distribution(density: Density) -> None:
    torch.manual_seed(1)
    actor = Actor(3, density=density)
    states = torch.rand(7, 3)
    torch.manual_seed(2)
    action, found = actor(states)
    torch.manual_seed(2)
    hidden = actor.body(states)
    policy = Normal(actor.mean(hidden), actor.log_std(hidden).clamp(-20, 2).exp())
    u = policy.mean + policy.stddev * torch.randn(7, 3)
    wanted = policy.log_prob(u).sum(1, keepdim=True)
    if density == "tanh":
        wanted = wanted - (2 * (math.log(2) - u - F.softplus(-2 * u))).sum(1, keepdim=True)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(action, 3 * u.softmax(1))
    assert torch.allclose(action.sum(1), torch.full((7,), 3.0))


def test_the_two_critics_are_two_networks() -> None:
    critic = TwinCritic(2)
    state, action = torch.rand(5, 2), torch.rand(5, 2)
    for k, values in enumerate(critic(state, action)):
        x = torch.cat((state, action), 1)
        for i, (weight, bias) in enumerate(zip(critic.weight, critic.bias, strict=True)):
            x = (F.relu(x) if i else x) @ weight[k] + bias[k]
        assert torch.allclose(values, x, atol=1e-6)
    first, second = critic(state, action)
    assert not torch.allclose(first, second)


def test_the_memory_is_a_ring() -> None:
    agent = SoftActorCritic(2, capacity=3)
    for k in range(4):
        value = torch.full((2,), float(k))
        agent.store(value, value, torch.tensor(float(k)), value)
    assert agent.size == 3
    assert agent.memory[:, 0].tolist() == [3.0, 1.0, 2.0]
    assert agent.memory[0].tolist() == [3.0] * 7


@pytest.mark.parametrize(
    ("size", "updates", "items"), [(1, 25, 128), (5, 37, 192), (10, 50, 256), (30, 50, 256)]
)
def test_the_share_of_the_memory_that_is_filled_sets_updates_and_batch(
    size: int, updates: int, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = SoftActorCritic(2, capacity=10)
    for _ in range(size):
        agent.store(torch.ones(2), torch.ones(2), torch.tensor(0.0), torch.ones(2))
    if size == 1:
        agent.capacity = 10_000  # k is 1 but for a ten-thousandth
    seen: list[Batch] = []
    monkeypatch.setattr(agent, "update", seen.append)
    agent.learn(50)
    assert len(seen) == updates
    assert {len(batch.state) for batch in seen} == {items}
    assert {tuple(batch.reward.shape) for batch in seen} == {(items, 1)}


def test_an_empty_memory_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = SoftActorCritic(2)
    monkeypatch.setattr(agent, "update", lambda batch: pytest.fail("updated"))
    agent.learn(50)


def test_one_update_is_that_of_the_equations() -> None:
    torch.manual_seed(0)
    agent = SoftActorCritic(2)
    with torch.no_grad():  # another one than the critics, or a mistaken one would not show
        for weight in agent.target.parameters():
            weight.add_(0.1)
    batch = Batch(torch.rand(8, 2), torch.rand(8, 2), torch.rand(8, 1), torch.rand(8, 2))
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    torch.manual_seed(3)
    action, density = agent.actor(batch.following)
    wanted = batch.reward + 0.99 * (
        agent.target(batch.following, action).min(0).values - 0.2 * density
    )
    values = agent.critic(batch.state, batch.action)
    loss = F.mse_loss(values[0], wanted.detach()) + F.mse_loss(values[1], wanted.detach())
    critics = torch.autograd.grad(loss, list(agent.critic.parameters()))
    torch.manual_seed(3)
    agent.update(batch)
    for (name, weight), gradient in zip(agent.critic.named_parameters(), critics, strict=True):
        # The first step of Adam is the rate times the gradient's sign.
        moved = weight - before[f"critic.{name}"]
        large = gradient.abs() > 1e-4
        assert torch.allclose(moved[large], -3e-4 * gradient[large].sign(), atol=1e-6)
        target = dict(agent.target.named_parameters())[name]
        old = before[f"target.{name}"]
        assert torch.allclose(target, 0.995 * old + 0.005 * weight, atol=1e-6)
    assert all(weight.requires_grad for weight in agent.critic.parameters())
    assert not any(weight.requires_grad for weight in agent.target.parameters())


@pytest.mark.parametrize(("density", "falls"), [(-5.0, True), (50.0, False)])
def test_temperature_falls_where_the_entropy_is_above_its_target(
    density: float, falls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = SoftActorCritic(2)
    forward = agent.actor.forward
    monkeypatch.setattr(
        agent.actor, "forward", lambda state: (forward(state)[0], density + 0 * forward(state)[1])
    )
    agent.update(Batch(torch.rand(4, 2), torch.rand(4, 2), torch.rand(4, 1), torch.rand(4, 2)))
    moved = float(agent.log_alpha.detach()) - math.log(0.2)
    assert moved == pytest.approx(-3e-4 if falls else 3e-4, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("density", ["tanh", "gaussian"])
def test_a_bandit_is_solved_with_the_density_as_coded_alone(density: Density) -> None:
    """One state, and the best first weight is 1.5.

    Of u before the softmax the entropy has no bound, as a softmax of ever larger numbers is always
    another corner: the noise grows as far as it may. The term of tanh punishes large u.
    """
    torch.manual_seed(0)
    agent = SoftActorCritic(2, density=density)
    agent.DISCOUNT = 0.0
    state = torch.ones(2)
    for _ in range(20):
        for _ in range(50):
            action = agent.act(state)
            agent.store(state, action, -((action[0] - 1.5) ** 2), state)
        agent.learn(50)
    with torch.no_grad():
        hidden = agent.actor.body(state)
        first = 2 * agent.actor.mean(hidden).softmax(0)[0]
        noise = agent.actor.log_std(hidden).exp()
    if density == "tanh":
        assert float(first) == pytest.approx(1.5, abs=0.1)
        assert noise.max() < 1
    else:
        assert noise.min() > math.exp(2)
