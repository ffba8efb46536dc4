"""The paper in the harness: its tables, and a small training."""

from __future__ import annotations

import pytest
import torch

from retable.papers.subtb.hypergrid import HyperGrid, l1
from retable.papers.subtb.networks import MLP
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.rollout import GridPolicy
from retable.tables.spec import load


def trained(objective, updates, seed=0, **grid):
    torch.manual_seed(seed)
    made = GridPolicy(HyperGrid(**grid), MLP(2, grid["height"], [256, 256], 6))
    log_z = torch.nn.Parameter(torch.zeros(()))
    groups = [{"params": list(made.parameters())}, {"params": [log_z], "lr": 0.1}]
    optimizer = torch.optim.Adam(groups, lr=1e-3, fused=True)
    for _ in range(updates):
        optimizer.zero_grad()
        objective.loss(made.evaluate(made.sample(16), log_z)).backward()
        optimizer.step()
    exact = made.grid.terminating_distribution(made.probabilities())
    return l1(exact, made.grid.target())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["subtb", "db", "modified_db"])
def test_objectives_learn_the_easy_grid(name):
    """E1-smoke: 8 x 8, R0 = 1e-3. The start is at 1.5 and more; TB may stay in one corner."""
    assert trained(Objective(name), 700, n_dims=2, height=8, r0=1e-3) < 0.1


@pytest.mark.slow
def test_subtb_learns_a_sparse_grid_on_which_tb_stays_in_one_corner():
    """E1-small: 16 x 16, R0 = 1e-4; 1.5 is one corner of four."""
    grid = {"n_dims": 2, "height": 16, "r0": 1e-4}
    assert trained(Objective("subtb"), 800, **grid) < 0.2
    assert trained(Objective("tb"), 800, **grid) > 1.0


@pytest.mark.parametrize(
    "name", ["hypergrid", "hypergrid_long", "lambda_sweep", "learning_rates", "gradients"]
)
def test_tables_carry_their_claims_and_no_reported_number(name):
    table = load(f"subtb/{name}")
    assert not table.reported
    assert table.claims
    assert table.figure is not None
    assert all(c.grade != "primary" or "third party" not in (c.where or "") for c in table.claims)
