"""Loss balancing: closed forms, invariances, the calls at which weights change."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.igb.gaps import IGBv1, IGBv2
from retable.papers.igb.losses import (
    Balancer,
    DynamicWeightAverage,
    RandomWeights,
    Uncertainty,
)

positive = st.lists(st.floats(0.01, 100), min_size=2, max_size=6)


def based(base: list[float]) -> IGBv1:
    balancer = IGBv1(len(base), base_epoch=0)
    balancer(torch.tensor(base))
    balancer.end_epoch(0)
    return balancer


def test_weights_of_igbv1_are_a_softmax_of_ratios_and_not_of_logarithms() -> None:
    balancer = based([4.0, 1.0])
    vector = balancer(torch.tensor([2.0, 1.0]))
    assert balancer.weights.tolist() == pytest.approx([0.7551, 1.2449], abs=1e-4)
    assert float(vector.sum()) == pytest.approx(0.7551 * math.log(2), abs=1e-4)


@given(positive)
def test_losses_at_their_base_give_the_scale_invariant_objective(losses: list[float]) -> None:
    vector = based(losses)(torch.tensor(losses))
    assert torch.allclose(vector, torch.tensor(losses).log(), atol=1e-5)


@given(positive, st.floats(0.01, 100))
def test_a_loss_in_another_unit_leaves_weights_and_gradient(
    losses: list[float], factor: float
) -> None:
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for scale in (1.0, factor):
        unit = torch.ones(len(losses), dtype=torch.float64)
        unit[0] = scale
        balancer = IGBv1(len(losses), base_epoch=0).double()
        balancer(torch.full((len(losses),), 2.0).double() * unit)
        balancer.end_epoch(0)
        theta = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
        balancer(theta * unit).sum().backward()
        assert theta.grad is not None
        found.append((balancer.weights.double(), theta.grad))
    assert torch.allclose(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1])


def test_a_unit_that_changes_after_the_base_changes_the_weights_and_ls_is_not_invariant() -> None:
    balancer = based([1.0, 1.0])
    balancer(torch.tensor([1.0, 1.0]))
    before = balancer.weights
    balancer(torch.tensor([3.0, 1.0]))
    assert not torch.allclose(before, balancer.weights)
    theta = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad(Balancer(2)(theta * torch.tensor([3.0, 1.0])).sum(), theta)
    assert gradient.tolist() == [3.0, 1.0]


@given(positive)
def test_no_gradient_flows_into_the_weights(values: list[float]) -> None:
    balancer = based([1.0] * len(values))
    losses = torch.tensor(values, requires_grad=True)
    (gradient,) = torch.autograd.grad(balancer(losses).sum(), losses)
    assert torch.allclose(gradient, balancer.weights / losses.detach(), rtol=1e-5)


def test_the_base_is_the_mean_of_its_epoch_and_stays() -> None:
    balancer = IGBv1(1)
    for epoch, value in enumerate((1.0, 2.0, 3.0)):
        for offset in (-0.5, 0.5):
            balancer(torch.tensor([value + offset]))
        assert balancer.known == (epoch > 1)
        balancer.end_epoch(epoch)
    assert balancer.base.tolist() == [2.0]


@pytest.mark.parametrize("scale_invariant", [False, True])
def test_weights_sum_to_the_number_of_tasks(scale_invariant: bool) -> None:
    torch.manual_seed(0)
    losses = torch.tensor([0.5, 2.0, 9.0])
    agent = IGBv2(3, base_epoch=0)
    for step in range(60):
        if step == 5:
            agent.end_epoch(0)
        agent(losses * (1 + 0.1 * step))
        assert float(agent.weights.sum()) == pytest.approx(3, abs=1e-5)
    for balancer in (
        RandomWeights(3, scale_invariant=scale_invariant),
        DynamicWeightAverage(3, scale_invariant=scale_invariant),
    ):
        for step in range(60):
            raw = losses / (1 + step * torch.arange(3))
            vector = balancer(raw)
            assert float(balancer.weights.sum()) == pytest.approx(3, abs=1e-5)
            values = raw.log() if scale_invariant else raw
            assert torch.allclose(vector, balancer.weights * values)


def test_weights_of_dwa_are_first_others_than_one_at_the_27th_call() -> None:
    balancer = DynamicWeightAverage(2)
    seen: list[torch.Tensor] = []
    calls = [torch.tensor([2.0**-k, 1.0]) for k in range(27)]
    for losses in calls:
        balancer(losses)
        seen.append(balancer.weights)
    assert all(weights.tolist() == [1.0, 1.0] for weights in seen[:26])
    history = torch.cat((torch.ones(23, 2), torch.stack(calls)))
    wanted = 2 * (history[25:].mean(0) / history[:25].mean(0) / 2).softmax(0)
    assert torch.allclose(seen[26], wanted)
    assert not torch.allclose(wanted, torch.ones(2))


def test_uncertainty_is_at_rest_where_the_variance_is_the_loss() -> None:
    balancer = Uncertainty(2)
    losses = torch.tensor([0.5, 4.0])
    with torch.no_grad():
        balancer.log_variance.copy_(losses.log())
    (gradient,) = torch.autograd.grad(balancer(losses).sum(), balancer.log_variance)
    assert gradient.tolist() == pytest.approx([0, 0], abs=1e-6)
    at_start = Uncertainty(2)
    assert at_start(losses).tolist() == pytest.approx([0.25, 2.0])
    assert at_start.weights.tolist() == [0.5, 0.5]


def test_uncertainty_of_logarithms_has_no_lower_bound() -> None:
    balancer = Uncertainty(1, scale_invariant=True)
    values = []
    for s in (0.0, -5.0, -10.0):
        with torch.no_grad():
            balancer.log_variance.fill_(s)
        values.append(float(balancer(torch.tensor([0.5])).sum().detach()))
    assert values[0] > values[1] > values[2]
    assert values[2] < -1000


def test_a_loss_of_zero_is_cut_off() -> None:
    losses = torch.tensor([0.0, 1.0], requires_grad=True)
    vector = Balancer(2, scale_invariant=True)(losses)
    assert vector.tolist() == pytest.approx([math.log(1e-8), 0.0])
    vector.sum().backward()
    assert losses.grad is not None
    assert losses.grad.isfinite().all()


def test_reward_is_the_worst_relative_decrease() -> None:
    balancer = IGBv2(2, base_epoch=0)
    balancer(torch.tensor([4.0, 1.0]))
    balancer.end_epoch(0)
    balancer.last_losses.copy_(torch.tensor([2.0, 1.0]))
    assert float(balancer.reward(torch.tensor([1.0, 0.9]))) == pytest.approx(0.1)
    balancer.reward_scale = 4.0
    assert float(balancer.reward(torch.tensor([1.0, 0.9]))) == pytest.approx(0.4)


def test_a_transition_has_the_last_state_its_action_and_the_reward_that_followed() -> None:
    torch.manual_seed(0)
    balancer = IGBv2(2)
    balancer.steps_per_epoch = 2
    chosen: list[torch.Tensor] = []
    stream = [torch.tensor([5.0 - k, 3.0 - 0.1 * k]) for k in range(5)]
    for k, losses in enumerate(stream):
        balancer(losses)
        chosen.append(balancer.weights)
        if k % 2:
            balancer.end_epoch(k // 2)
    # b is known after four steps: the fifth stores the first transition, of the fourth.
    assert balancer.agent.size == 1
    base = torch.stack(stream[2:4]).mean(0)
    reward = ((stream[3] - stream[4]) / base).min()
    wanted = torch.cat((stream[3], chosen[3], reward[None], stream[4]))
    assert torch.allclose(balancer.agent.memory[0], wanted)


def test_weights_are_random_for_five_epochs_and_the_policy_s_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    balancer = IGBv2(2)
    balancer.steps_per_epoch = 3
    acted: list[int] = []
    learned: list[int] = []
    monkeypatch.setattr(balancer.agent, "learn", lambda every: learned.append(int(balancer.step)))
    monkeypatch.setattr(
        balancer.agent, "act", lambda losses: acted.append(int(balancer.step)) or losses
    )
    for step in range(101):
        balancer(torch.tensor([1.0, 1.0]))
        if step % 3 == 2:
            balancer.end_epoch(step // 3)
    assert acted == list(range(15, 101))
    assert learned == [50, 100]
