"""Gradients per trajectory: against autograd, closed forms, and what a run records."""

from __future__ import annotations

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.subtb.gradients import Gradients, cosine, per_trajectory, quality
from retable.papers.subtb.hypergrid import HyperGrid
from retable.papers.subtb.module_gradients import GradientGrid
from retable.papers.subtb.networks import MLP, Table
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.rollout import GridPolicy
from retable.papers.subtb.visited import Visited
from retable.training.execute import Context, execute

OBJECTIVES = {
    "db": Objective("db"),
    "modified_db": Objective("modified_db"),
    "subtb": Objective("subtb", 0.8),
    "tb": Objective("tb"),
}
TINY = ("data.updates=4", "trainer.max_epochs=4", "model.sample=32", "model.reference=32")


def policy(h=4):
    torch.manual_seed(3)
    grid = HyperGrid(2, h, 1e-3)
    table = Table(grid.size, 6)
    torch.nn.init.normal_(table.weight)
    return GridPolicy(grid, table).double()


def only(visited, chosen):
    """The batch of some of the trajectories."""
    kept = torch.isin(visited.owner, torch.tensor(chosen))
    owner = torch.searchsorted(torch.tensor(chosen), visited.owner[kept])
    parts = (visited.cells[kept], owner, visited.time[kept])
    return Visited(*parts, visited.action[kept], visited.last[kept], len(chosen))


def by_autograd(made, visited, objective):
    found = made.evaluate(visited)
    if objective.name == "tb":
        # log Z is log F(s_0), which is the table's own: its part is left out by taking P_F's.
        found = made.evaluate(visited, found.log_flow[:, 0])
    (grad,) = torch.autograd.grad(objective.loss(found), made.network.weight)
    return grad[:, : made.grid.n_actions].flatten()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_minibatch_gradients_are_those_of_their_losses(name):
    made, objective = policy(), OBJECTIVES[name]
    visited = made.sample(8)
    found = per_trajectory(made, visited, objective)
    torch.testing.assert_close(found.whole(), by_autograd(made, visited, objective))
    for size in (1, 2, 4):
        batches = found.minibatches(size)
        assert len(batches) == 8 // size
        for i, grad in enumerate(batches):
            chosen = list(range(i * size, (i + 1) * size))
            expected = by_autograd(made, only(visited, chosen), objective)
            torch.testing.assert_close(grad, expected)


def test_whole_trajectories_move_every_step_by_the_same_residual():
    """TB's gradient at a logit: twice the residual times (taken - P_F), summed over visits."""
    made = policy()
    visited = made.sample(1)
    found = made.evaluate(visited)
    residual = float(
        (
            found.log_flow[0, 0] + found.log_pf.sum() - found.log_pb.sum() - found.log_reward[0]
        ).detach()
    )
    p = made.probabilities()
    expected = torch.zeros(16, 3, dtype=torch.float64)
    for cell, action in zip(visited.cells.tolist(), visited.action.tolist(), strict=True):
        expected[cell] -= 2 * residual * p[cell]
        expected[cell, action] += 2 * residual
    grad = per_trajectory(made, visited, OBJECTIVES["tb"]).whole().view(16, 3)
    torch.testing.assert_close(grad, expected)


def test_quality_by_hand():
    sums = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 2.0]], dtype=torch.float64)
    found = Gradients(sums, torch.ones(4, dtype=torch.float64))
    assert found.minibatches(2).tolist() == [[2, 0], [0, 2]]
    assert found.whole().tolist() == [1, 1]
    own, tb = torch.tensor([2.0, 0.0]).double(), torch.tensor([1.0, 1.0]).double()
    values = quality(found, 2, own, tb)
    assert values.to_itself == pytest.approx(0.5)
    assert values.to_tb == pytest.approx(0.5**0.5)
    assert values.variance == pytest.approx(4.0)
    assert float(cosine(own, -own)) == pytest.approx(-1)


def test_large_batches_of_minibatches_have_less_variance():
    made = policy()
    own = {k: per_trajectory(made, made.sample(4096), o).whole() for k, o in OBJECTIVES.items()}
    visited = made.sample(512)
    for name, objective in OBJECTIVES.items():
        gradients = per_trajectory(made, visited, objective)
        few, many = (quality(gradients, n, own[name], own["tb"]) for n in (2, 64))
        assert few.variance > 4 * many.variance
        assert few.to_itself < many.to_itself


@pytest.mark.slow
def test_a_network_that_is_no_table_is_refused():
    grid = HyperGrid(2, 4)
    made = GridPolicy(grid, MLP(2, 4, [8], 6))
    with pytest.raises(TypeError, match="network=table"):
        per_trajectory(made, made.sample(2), OBJECTIVES["tb"])
    with pytest.raises(ValueError, match="'pooled' ties"):
        per_trajectory(policy(), policy().sample(2), Objective("subtb", 0.8, "pooled"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sample": 100}, "model.sample: 100"), ({"batch": 32, "sample": 32}, "less than")],
)
def test_wrong_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradientGrid(seed=0, **options)


def test_limits_are_equal_on_a_batch():
    module = GradientGrid(seed=0, height=6)
    torch.manual_seed(0)
    torch.nn.init.normal_(module.policy.network.weight)
    found = module.limits()
    assert found["subtb_zero"] == pytest.approx(found["modified_db"], rel=1e-6)
    assert found["subtb_infinite"] == pytest.approx(found["tb"], rel=1e-4)
    assert found["subtb_one"] == pytest.approx(2 * found["variance"], rel=1e-9)
    assert found["subtb_zero"] != pytest.approx(found["tb"], rel=0.1)


@pytest.mark.slow
def test_a_run_records_courses_and_sizes_and_can_be_repeated(tmp_path):
    with hydra_ready():
        made = compose(["experiment=subtb/gradients_smoke", "seed=0", *TINY])
    cfg = made.model_dump(mode="json")
    outcome, again = (execute(cfg, Context(tmp_path / name)) for name in ("1", "2"))
    found = {(r.metric, r.row, r.step): r.value for r in outcome.results}
    for row in ("db", "subtb", "tb"):
        assert -1 <= found["gradients/to_tb", row, 100] <= 1
        assert found["gradients/variance", row, 50] > 0
        for size in (1, 4, 16):
            assert ("gradients/to_itself_by_size", row, size) in found
    assert ("gradients/agreement", "tb", 100) not in found
    assert found["gradients/to_itself", "tb", 100] == found["gradients/to_tb", "tb", 100]
    assert len(outcome.results) <= 200
    assert again.results == outcome.results
