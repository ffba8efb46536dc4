"""The hypergrid: rewards, target, exact distribution, sampling, and the network's two ways."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.subtb.hypergrid import HyperGrid, l1, noise_floor
from retable.papers.subtb.losses import subtb_loss
from retable.papers.subtb.objectives import Objective
from support.subtb import dense, policy, visited_of

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


def test_backward_probability_of_a_path_is_read_at_the_children():
    """(0,0) -> (1,0) -> (1,1) -> stop with uniform P_B: log 1, log 1/2, log 1."""
    made = policy(h=2, learned_pb=False)
    found = made.evaluate(visited_of(made.grid, [[0, 1, 2]]))
    assert found.log_pb[0].tolist() == pytest.approx([0, math.log(0.5), 0])
    assert found.log_flow[0, -1].item() == pytest.approx(float(made.grid.log_reward[3]))


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


@pytest.mark.slow
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
