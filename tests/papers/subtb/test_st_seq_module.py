"""Runs on sequences and molecules: what they record, and that a stopped run is the same run."""

from __future__ import annotations

import math

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.subtb.losses import modified_db_loss, subtb_loss, tb_loss
from retable.papers.subtb.module_seq import BitSequenceGFlowNet
from retable.training.checkpointing import find_resume
from retable.training.execute import Context, Interrupted, execute

IDENTITY = {"key": "k", "fingerprint": "f", "device": "cpu"}
SMALL = {"n": 8, "modes": 2, "layers": 1, "heads": 2, "width": 8, "hidden": 8}


def config(*overrides, seed=0):
    with hydra_ready():
        made = compose([f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


def attempt(cfg, folder, *, previous=(), after=None):
    left = [after or math.inf]

    def stop():
        left[0] -= 1
        return left[0] <= 0

    folder.mkdir(parents=True)
    resume = find_resume(previous, IDENTITY, lambda text: None)
    return execute(cfg, Context(folder, IDENTITY, resume, stop if after else None)), resume


def values(outcome):
    return {(r.metric, r.step): r.value for r in outcome.results}


SETTINGS = {
    "bitseq": ["experiment=subtb/bitseq_smoke"],
    "bitseq_tb": ["experiment=subtb/bitseq_smoke", "model.objective=tb", "model.dropout=0.1"],
    "bioseq": ["experiment=subtb/bioseq_smoke"],
    "molecules": ["experiment=subtb/molecules_smoke", "model.objective=tb"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_stopped_and_resumed_run_is_the_run_that_was_not(name, tmp_path):
    cfg = config(*SETTINGS[name], "trainer.max_epochs=3", "data.updates=3")
    whole, _ = attempt(cfg, tmp_path / "whole")
    with pytest.raises(Interrupted):
        attempt(cfg, tmp_path / "a", after=1)
    resumed, resume = attempt(cfg, tmp_path / "b", previous=[tmp_path / "a"])
    assert resume is not None
    assert resume.epoch == 1
    assert resumed.weights_sha256 == whole.weights_sha256
    assert values(resumed) == values(whole)
    assert resumed.history == whole.history
    other, _ = attempt({**cfg, "seed": 1}, tmp_path / "other")
    assert other.weights_sha256 != whole.weights_sha256


@pytest.mark.slow
def test_a_run_of_bit_sequences_records_what_a_table_needs(tmp_path):
    found = values(attempt(config("experiment=subtb/bitseq_smoke"), tmp_path / "run")[0])
    tests = {metric for metric, step in found if step is None}
    assert tests == {f"test/{name}" for name in (
        "spearman", "modes", "modes_area", "log_reward", "l1", "log_z_error")}  # fmt: skip
    assert 0 <= found["test/modes", None] <= 4
    assert found["curve/modes", 100] == found["test/modes", None]
    assert 0 < found["test/l1", None] < 2
    assert {step for metric, step in found if metric == "curve/spearman"} == set(range(10, 101, 10))
    share = [found["curve/modes", 50] / 4, found["curve/modes", 100] / 4]
    assert found["test/modes_area", None] == pytest.approx(sum(share) / 2)


def module(objective, seed=0, **options):
    torch.manual_seed(seed)
    optimizer = options.pop("optimizer", None)
    return BitSequenceGFlowNet(
        seed=0, objective=objective, optimizer=optimizer, **{**SMALL, **options}
    ).double()


@pytest.mark.parametrize("objective", ["subtb", "tb", "db", "modified_db", "fm"])
def test_the_loss_is_the_named_objective_of_what_is_drawn(objective):
    made = module(objective, log_z_init=1.5, lam=0.8)
    torch.manual_seed(3)
    loss = made.shared_step(None).loss
    torch.manual_seed(3)
    drawn = made.draw(16, 0.001)
    logits, flow = made.network(made.space.inputs(drawn.actions))
    log_pf = logits.log_softmax(2).gather(2, drawn.actions[..., None])[..., 0]
    if objective == "fm":
        flow = logits.logsumexp(2)
    flow = torch.cat([flow, drawn.log_reward[:, None].double()], 1)
    zero = torch.zeros_like(log_pf)
    expected = {
        "subtb": lambda: subtb_loss(flow, log_pf, zero, drawn.lengths, 0.8),
        "tb": lambda: tb_loss(torch.tensor(1.5), log_pf, zero, drawn.log_reward, drawn.lengths),
    }.get(objective, lambda: modified_db_loss(flow, log_pf, zero, drawn.lengths))()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in made.network.parameters() if p.grad is not None)


@pytest.mark.parametrize("objective", ["subtb", "fm", "tb"])
def test_log_partition_is_the_flow_of_the_start(objective):
    made = module(objective, log_z_init=2.5)
    start = torch.full((1, 1), made.space.start)
    logits, flow = made.network(start)
    expected = {"subtb": flow, "fm": logits.logsumexp(2), "tb": torch.tensor(2.5)}[objective]
    assert made.log_partition() == pytest.approx(expected.item(), rel=1e-6)


def test_log_z_has_a_rate_of_its_own_and_no_decay():
    def optimizer(groups):
        return torch.optim.Adam(groups, lr=0.001, weight_decay=0.1)

    made = module("tb", lr_log_z=0.25, optimizer=optimizer)
    network, log_z = made.configure_optimizers().param_groups
    assert (network["lr"], network["weight_decay"]) == (0.001, 0.1)
    assert (log_z["lr"], log_z["weight_decay"], len(log_z["params"])) == (0.25, 0.0, 1)
    assert len(module("subtb", optimizer=optimizer).configure_optimizers().param_groups) == 1


def test_initial_flow_is_a_bias():
    low, high = module("subtb"), module("subtb", flow_init=7.0)
    assert high.log_partition() - low.log_partition() == pytest.approx(7, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"k": 3}, "3 does not divide"), ({"objective": "ppo"}, "model.objective: 'ppo' is none of")],
)
def test_refusals_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        module(**{"objective": "subtb", **options})


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["subtb", "tb", "fm"])
def test_training_comes_near_the_exact_distribution(objective):
    """Eight bits, enumerated: summed L1 well below that of an untrained network."""
    made = module(
        objective, lam=0.9, beta=1.0, k=2, width=16, hidden=16, random_action=0.0, batch_size=32
    )
    optimizer = torch.optim.Adam(
        [
            {"params": made.network.parameters(), "lr": 0.003},
            *([{"params": [made.log_z], "lr": 0.1}] if objective == "tb" else []),
        ]
    )
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 800)
    torch.manual_seed(0)
    for _ in range(800):
        optimizer.zero_grad()
        made.shared_step(None).loss.backward()
        optimizer.step()
        decay.step()
    made.test_step(None, 0)
    found = {r.metric: r.value for r in made.results}
    assert found["test/l1"] < 0.45  # 1.33 of the untrained network
    assert found["test/log_z_error"] < 0.2
    assert found["test/spearman"] > 0.9
