"""Sampling on the hypergrid and what is read along trajectories: machine code and tensors."""

from __future__ import annotations

import importlib
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers import subtb
from retable.papers.subtb import rollout, rollout_cpu
from retable.papers.subtb.hypergrid import l1, noise_floor
from retable.papers.subtb.rollout import GridPolicy, trajectories, visits
from support.subtb import dense, policy, visited_of


@pytest.fixture(params=["compiled", "tensors"])
def implementation(request, monkeypatch):
    """Machine code, or the tensor operations that other devices use."""
    if request.param == "tensors":
        monkeypatch.setattr(rollout_cpu, "walk", by_tensors)
        monkeypatch.setattr(rollout_cpu, "along", along_by_tensors)


def by_tensors(grid, network, noise, scale):
    return GridPolicy(grid, network)._walk(network, noise, scale)


def along_by_tensors(out, visited, grid, log_reward, *, learned_pb):
    return rollout._Along.apply(out, visited, grid, learned_pb, visited.lengths, log_reward)


@pytest.mark.slow
@pytest.mark.parametrize("table", [True, False])
def test_samples_follow_the_exact_distribution(table, implementation):
    made = policy(d=3, h=4, table=table, dtype=torch.float32)
    exact = made.grid.terminating_distribution(made.probabilities())
    n = 100_000
    objects = made.sample(n).objects(3)
    shares = objects.bincount(minlength=made.grid.size).double() / n
    # The floor is the mean; its own spread is far smaller over 64 cells.
    assert 0.5 < l1(shares, exact) / noise_floor(exact, n) < 1.5


@pytest.mark.parametrize("options", [{"epsilon": 0.3}, {"temperature": 3.0}])
@pytest.mark.parametrize("table", [True, False])
def test_exploration_samples_the_policy_it_says(options, table, implementation):
    made = policy(d=2, h=4, table=table, dtype=torch.float32)
    for parameters in [] if table else made.network.weights:
        parameters.data.mul_(4)
    p = made.probabilities()
    valid = (made.grid.forward_mask == 0).double()
    if "epsilon" in options:
        mixed = 0.7 * p + 0.3 * valid / valid.sum(1, keepdim=True)
    else:
        mixed = p ** (1 / 3)
        mixed = mixed / mixed.sum(1, keepdim=True)
    expected = made.grid.terminating_distribution(mixed)
    torch.manual_seed(1)
    n = 50_000
    shares = made.sample(n, **options).objects(2).bincount(minlength=16).double() / n
    assert l1(shares, expected) < 2 * noise_floor(expected, n)
    plain = made.grid.terminating_distribution(p)
    assert l1(shares, plain) > 4 * noise_floor(plain, n)


@pytest.mark.slow
@pytest.mark.parametrize("table", [True, False])
def test_what_is_sampled_are_whole_trajectories(table, implementation):
    made = policy(d=3, h=5, table=table)
    found = made.sample(40)
    batch = trajectories(found, made.grid)
    assert (batch.size, batch.steps) == (40, int(batch.lengths.max()))
    for b in range(40):
        at = [0, 0, 0]
        for t in range(int(batch.lengths[b])):
            assert made.grid.coordinates[batch.states[b, t]].tolist() == at
            action = int(batch.actions[b, t])
            assert (action == 3) == (t == int(batch.lengths[b]) - 1)
            if action < 3:
                at[action] += 1
                assert at[action] < 5
        assert made.grid.coordinates[batch.objects[b]].tolist() == at
    again = visits(batch, made.grid)
    for name in ("cells", "owner", "time", "action", "last"):
        assert torch.equal(getattr(found, name), getattr(again, name)), name
    torch.testing.assert_close(
        made.evaluate(found).log_pf, made.evaluate(again).log_pf, rtol=1e-12, atol=0
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(1, 4),
    h=st.integers(2, 6),
    n=st.integers(1, 40),
    widths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    double=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_machine_code_does_what_the_tensor_operations_do(d, h, n, widths, double, seed):
    """From the same noise the same trajectories, activations and gradients."""
    dtype = torch.float64 if double else torch.float32
    made = policy(d=d, h=h, widths=widths, seed=seed, dtype=dtype, learned_pb=seed % 2 == 0)
    grid, network = made.grid, made.network
    noise = rollout._gumbel(grid.max_steps, n, grid.n_actions, torch.device("cpu")).to(dtype)
    scale = torch.rand(noise.shape[:2], dtype=dtype)
    with torch.no_grad():
        found = rollout_cpu.walk(grid, network, noise, scale)
        expected = made._walk(network, noise, scale)
    for name in ("cells", "owner", "time", "action", "last"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for a, b in zip(found.hidden, expected.hidden, strict=True):
        torch.testing.assert_close(a, b)
    out = torch.randn(len(found.cells), 2 * d + 2, dtype=dtype, requires_grad=True)
    log_reward = torch.randn(n)
    results = [
        rollout_cpu.along(out, found, grid, log_reward, learned_pb=made.learned_pb),
        along_by_tensors(out, found, grid, log_reward, learned_pb=made.learned_pb),
    ]
    weights = [torch.randn_like(x) for x in results[0]]
    grads = []
    for result in results:
        total = sum((w * x).sum() for w, x in zip(weights, result, strict=True))
        grads.append(torch.autograd.grad(total, out)[0])
    for a, b in (*zip(*results, strict=True), grads):
        torch.testing.assert_close(a, b)


def test_a_network_gone_wrong_leads_nowhere_out_of_the_grid():
    """NaN is never larger than anything: no action but those that exist is taken."""
    made = policy(d=2, h=4)
    made.network.biases[0].data.fill_(math.nan)
    found = made.sample(5)
    assert found.cells.max() < made.grid.size
    assert found.lengths.tolist() == [1] * 5


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "retable.papers.subtb.compiled")
    monkeypatch.delattr(subtb, "compiled")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"needs numba; install the extra: retable\[subtb\]"):
        importlib.reload(rollout_cpu)


@pytest.mark.parametrize("learned_pb", [True, False])
@pytest.mark.parametrize("table", [True, False])
def test_evaluation_by_loops_with_its_gradient(learned_pb, table, implementation):
    made = policy(d=2, h=4, learned_pb=learned_pb, table=table)
    grid, paths = made.grid, [[0, 1, 1, 2], [2], [1, 0, 0, 0, 1, 1, 2]]
    found = made.evaluate(visited_of(grid, paths))
    assert found.lengths.tolist() == [4, 1, 7]
    everywhere = torch.arange(grid.size)
    out = made.network.weight if table else dense(made.network, grid.coordinates)
    forward = (out[:, :3] + grid.forward_mask).log_softmax(1)
    logits = out[:, 3:5] if learned_pb else torch.zeros(grid.size, 2, dtype=torch.float64)
    backward = (logits + grid.backward_mask).log_softmax(1)
    assert everywhere.shape == (16,)
    total, by_loops = 0.0, 0.0
    weights = torch.randn(3, 8, dtype=torch.float64)
    for b, path in enumerate(paths):
        cell = 0
        for t, action in enumerate(path):
            child = cell + int(grid.moves[action])
            expected_pb = backward[child, action] if action < 2 else torch.tensor(0.0)
            assert found.log_pf[b, t].item() == pytest.approx(forward[cell, action].item())
            assert found.log_pb[b, t].item() == pytest.approx(expected_pb.item())
            assert found.log_flow[b, t].item() == pytest.approx(out[cell, 5].item())
            total = total + weights[b, t] * (
                found.log_pf[b, t] - 2 * found.log_pb[b, t] + 3 * found.log_flow[b, t]
            )
            by_loops = by_loops + weights[b, t] * (
                forward[cell, action] - 2 * expected_pb + 3 * out[cell, 5]
            )
            cell = child
        assert found.log_flow[b, len(path)] == grid.log_reward[cell]
    parameters = list(made.network.parameters())
    for a, b in zip(
        torch.autograd.grad(total, parameters),
        torch.autograd.grad(by_loops, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
