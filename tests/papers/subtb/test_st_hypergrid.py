"""The hypergrid: rewards, target, exact distribution, sampling, and the network's two ways."""

from __future__ import annotations

import importlib
import itertools
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers import subtb
from retable.papers.subtb import rollout, rollout_cpu
from retable.papers.subtb.hypergrid import HyperGrid, l1, noise_floor
from retable.papers.subtb.losses import subtb_loss
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.rollout import GridPolicy, trajectories, visits
from subtb_support import dense, policy

CHECKS = [  # D, H, R0, R1, R2, mode cells, log Z, mass of the mode cells
    (2, 8, 1e-1, 0.5, 2.0, 4, 3.10906, 0.46429),
    (2, 8, 1e-3, 0.5, 2.0, 4, 2.77658, 0.62276),
    (2, 12, 1e-3, 0.5, 2.0, 4, 3.26362, 0.38265),
    (2, 12, 1e-4, 0.5, 2.0, 4, 3.25865, 0.38442),
    (4, 12, 1e-3, 0.5, 2.0, 16, 6.55213, 0.05711),
    (4, 8, 1e-3, 0.5, 2.0, 16, 5.10045, 0.24386),
    (2, 20, 1e-3, 0.5, 2.0, 16, 4.41159, 0.48563),
    (2, 12, 1e-4, 1.0, 3.0, 4, 3.87150, None),
]


@pytest.mark.parametrize(("d", "h", "r0", "r1", "r2", "n", "log_z", "mass"), CHECKS)
def test_partition_function_and_modes(d, h, r0, r1, r2, n, log_z, mass):
    grid = HyperGrid(d, h, r0, r1, r2)
    assert grid.log_z() == pytest.approx(log_z, abs=5e-6)
    modes = grid.mode_cells()
    assert len(modes) == n
    assert len(grid.corner(modes).unique()) == 2**d
    if mass is not None:
        assert float(grid.target()[modes].sum()) == pytest.approx(mass, abs=5e-6)


@given(st.integers(2, 60))
def test_rewards_are_exact_at_the_boundaries(h):
    """Against fractions: 16 has cells at 0.3 exactly, 9, 13, 17 at 0.25, 11 and 21 at 0.4."""
    from fractions import Fraction

    found = HyperGrid(1, h, 1.0, 10.0, 100.0).rewards(torch.arange(h).unsqueeze(1))
    for s, reward in enumerate(found.tolist()):
        a = abs(Fraction(s, h - 1) - Fraction(1, 2))
        outer, mode = a > Fraction(1, 4), Fraction(3, 10) < a < Fraction(2, 5)
        assert reward == 1 + 10 * outer + 100 * mode


def test_the_side_of_16_has_two_mode_coordinates_and_eight_outer_ones():
    reward = HyperGrid(1, 16, 1.0, 10.0, 100.0).log_reward.exp().round()
    assert int((reward >= 100).sum()) == 2
    assert int((reward >= 10).sum()) == 8


def test_masks_leave_the_actions_that_exist():
    grid = HyperGrid(2, 3)
    for cell, (x, y) in enumerate(itertools.product(range(3), repeat=2)):
        assert grid.coordinates[cell].tolist() == [x, y]
        assert (grid.forward_mask[cell] == 0).tolist() == [x < 2, y < 2, True]
        assert (grid.backward_mask[cell] == 0).tolist() == [x > 0, y > 0]
    assert (grid.moves.tolist(), grid.max_steps) == ([3, 1, 0], 5)


def enumerated(grid):
    """All complete trajectories as lists of actions."""

    def extend(at):
        yield [grid.n_dims]
        for i in range(grid.n_dims):
            if at[i] < grid.height - 1:
                for rest in extend([x + (j == i) for j, x in enumerate(at)]):
                    yield [i, *rest]

    return list(extend([0] * grid.n_dims))


def visited_of(grid, actions):
    """Flat form of trajectories given as lists of actions, through the padded one."""
    n, steps = len(actions), max(map(len, actions))
    states = torch.zeros(n, steps, dtype=torch.long)
    taken = torch.zeros(n, steps, dtype=torch.long)
    for b, path in enumerate(actions):
        cell = 0
        for t, action in enumerate(path):
            states[b, t], taken[b, t] = cell, action
            cell += int(grid.moves[action])
        taken[b, len(path) :] = 99
    lengths = torch.tensor([len(path) for path in actions])
    objects = states.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
    padded = rollout.Trajectories(states, taken, lengths, objects, grid.log_reward[objects])
    return visits(padded, grid)


@pytest.mark.parametrize("d", [2, 3])
def test_exact_distribution_by_all_trajectories(d):
    made = policy(d=d, h=3)
    probabilities = made.probabilities()
    expected = torch.zeros(made.grid.size, dtype=torch.float64)
    for path in enumerated(made.grid):
        cell, p = 0, 1.0
        for action in path:
            p *= float(probabilities[cell, action])
            cell += int(made.grid.moves[action])
        expected[cell] += p
    found = made.grid.terminating_distribution(probabilities)
    torch.testing.assert_close(found, expected)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)


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


def test_backward_probability_of_a_path_is_read_at_the_children():
    """(0,0) -> (1,0) -> (1,1) -> stop with uniform P_B: log 1, log 1/2, log 1."""
    made = policy(h=2, learned_pb=False)
    found = made.evaluate(visited_of(made.grid, [[0, 1, 2]]))
    assert found.log_pb[0].tolist() == pytest.approx([0, math.log(0.5), 0])
    assert found.log_flow[0, -1].item() == pytest.approx(float(made.grid.log_reward[3]))


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


def test_backward_probabilities_sum_to_one_over_the_parents():
    made = policy(d=3, h=3)
    out = dense(made.network, made.grid.coordinates)
    p = (out[1:, 4:7] + made.grid.backward_mask[1:]).softmax(1)
    parents = made.grid.backward_mask[1:] == 0
    torch.testing.assert_close((p * parents).sum(1), torch.ones(26, dtype=torch.float64))
    assert not p[~parents].any()


def optimal(grid):
    """Outputs of a table whose flows match exactly, with uniform P_B."""
    parents = (grid.coordinates > 0).sum(1)
    flow = grid.rewards(grid.coordinates)
    for cell in reversed(range(grid.size)):
        for i in range(grid.n_dims):
            if grid.coordinates[cell, i] < grid.height - 1:
                child = cell + int(grid.moves[i])
                flow[cell] += flow[child] / parents[child]
    out = torch.zeros(grid.size, 2 * grid.n_dims + 2, dtype=torch.float64)
    out[:, grid.n_dims] = grid.rewards(grid.coordinates).log()
    for cell in range(grid.size):
        for i in range(grid.n_dims):
            if grid.coordinates[cell, i] < grid.height - 1:
                child = cell + int(grid.moves[i])
                out[cell, i] = (flow[child] / parents[child]).log()
    out[:, -1] = flow.log()
    return out


@pytest.mark.parametrize("objective", ["subtb", "db", "modified_db", "tb"])
@pytest.mark.parametrize("lam", [0.0, 0.9, 1.9])
def test_exact_flows_have_no_loss_also_off_policy(objective, lam):
    made = policy(d=2, h=4, learned_pb=False, table=True)
    made.network.weight.data = optimal(made.grid)
    torch.manual_seed(0)
    visited = made.sample(30, epsilon=0.7)
    log_z = torch.tensor(made.grid.log_z(), dtype=torch.float64)
    found = made.evaluate(visited, log_z)
    assert Objective(objective, lam).loss(found).item() == pytest.approx(0, abs=1e-12)
    exact = made.grid.terminating_distribution(made.probabilities())
    assert l1(exact, made.grid.target()) < 1e-6
    assert made.log_flow_at_start() == pytest.approx(made.grid.log_z())


def test_permuting_the_coordinates_with_the_inputs_changes_nothing():
    made = policy(d=2, h=4)
    swapped = policy(d=2, h=4)
    w = made.network.weights[0].data
    swapped.network.weights[0].data = torch.cat([w[4:], w[:4]])
    head, bias = made.network.weights[-1].data, made.network.biases[-1].data
    order = [1, 0, 2, 4, 3, 5]
    swapped.network.weights[-1].data = head[:, order]
    swapped.network.biases[-1].data = bias[order]
    paths = [[0, 1, 1, 2], [1, 2], [0, 0, 1, 2]]
    mirrored = [[{0: 1, 1: 0, 2: 2}[a] for a in path] for path in paths]
    losses = [
        Objective("subtb", 0.9).loss(m.evaluate(visited_of(m.grid, p)))
        for m, p in ((made, paths), (swapped, mirrored))
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)


def test_sum_and_mean_of_l1_differ_by_the_number_of_cells():
    uniform, point = torch.full((25,), 1 / 25), torch.zeros(25)
    point[3] = 1
    assert l1(uniform, point) == pytest.approx(2 * (1 - 1 / 25))


def test_noise_floor_is_the_distance_of_fresh_samples():
    target = HyperGrid(2, 12).target()
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(20):
        cells = torch.multinomial(target, 10_000, replacement=True, generator=generator)
        found.append(l1(cells.bincount(minlength=144).double() / 10_000, target))
    assert sum(found) / 20 == pytest.approx(noise_floor(target, 10_000), rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(2, 5), st.integers(0, 50))
def test_evaluation_gives_what_the_losses_take(d, h, seed):
    made = policy(d=d, h=h, seed=seed)
    found = made.evaluate(made.sample(6))
    steps = int(found.lengths.max())
    assert found.log_flow.shape == (6, steps + 1)
    assert found.log_pf.shape == found.log_pb.shape == (6, steps)
    assert (found.log_pf <= 0).all()
    loss = subtb_loss(found.log_flow, found.log_pf, found.log_pb, found.lengths, 0.9)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 8), "n_dims >= 1"),
        ((2, 1), "height >= 2"),
        ((4, 60), "at most 4194304 cells"),
        ((2, 8, 0.0), "r0 is 0.0; it has to be positive"),
        ((2, 8, 0.1, -1.0), "r1 is -1.0"),
    ],
)
def test_wrong_grids_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HyperGrid(*options)
