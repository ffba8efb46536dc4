"""Several tasks in the harness: what a step does, what is logged, stops."""

from __future__ import annotations

from functools import partial
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from retable.papers.igb.gaps import IGBv2
from retable.papers.igb.module import GradientName, LossName, MultiTask
from retable.papers.igb.networks import Mlp
from retable.papers.igb.step_times import COMBINED, StepTimes
from retable.training.execute import build
from support.training import attempt, config, stopped, substance

TASKS = {"a": 3, "b": 1}
NETWORK = partial(Mlp, n_features=5, widths=[8])


def made(**options):
    torch.manual_seed(0)
    return MultiTask(seed=0, tasks=TASKS, network=NETWORK, **options)


def batch(n=6):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 5, generator=generator)
    labels = torch.randint(3, (n,), generator=generator)
    return x, {"a": labels, "b": 3 * torch.randn(n, generator=generator)}


def numbers(outcome):
    return {result.metric: result.value for result in outcome.results}


@pytest.mark.slow
@pytest.mark.parametrize("gradients", get_args(GradientName))
@pytest.mark.parametrize("losses", get_args(LossName))
def test_every_loss_balancing_goes_with_every_gradient_balancing(losses, gradients):
    torch.manual_seed(0)
    module = StepTimes(seed=0, tasks=["a", "b"], network=NETWORK)
    x = torch.randn(6, 5)
    nets = []
    module.network = lambda **options: nets.append(NETWORK(**options)) or nets[-1]
    step = module.step(losses, gradients, x, {"a": torch.randn(6), "b": 9 * torch.randn(6)})
    before = [p.detach().clone() for p in nets[0].parameters()]
    step()
    for (name, now), was in zip(nets[0].named_parameters(), before, strict=True):
        assert now.isfinite().all()
        # The shortest combination may be one task's gradient alone; the other's head stays.
        if gradients != "mgda" or name.startswith("trunk"):
            assert not torch.equal(was, now)


def test_times_have_a_row_for_every_method():
    outcome_rows = {loss if method == "none" else f"{loss}_{method}" for loss, method in COMBINED}
    assert len(outcome_rows) == len(COMBINED) == 20
    cfg = config(
        "model.rounds=1", "model.block=1", "model.network.widths=[4]", experiment="igb/times"
    )
    _, module = build(cfg)
    module.test_step((torch.randn(4, 250), {f"t{i}": torch.randn(4) for i in range(11)}), 0)
    assert {result.row for result in module.results} == outcome_rows
    assert all(result.value > 0 for result in module.results)


def test_losses_and_what_metrics_are_given():
    module = made()
    module.scales = {"a": 1.0, "b": 3.0}
    x, targets = batch()
    outputs = module(x)
    output = module.eval().shared_step((x, targets))
    cross = F.cross_entropy(outputs["a"], targets["a"])
    squared = F.mse_loss(outputs["b"], targets["b"])
    assert torch.allclose(output.loss, cross + squared)
    assert torch.allclose(output.logs["loss_a"], cross)
    assert torch.allclose(output.logs["loss_b"], squared)
    error = (outputs["a"].argmax(1) != targets["a"]).float().mean()
    assert torch.allclose(output.logs["mean"], (error + squared / 9) / 2)
    assert "weight_a" not in output.logs
    predicted, target = output.tasks["b"]
    assert torch.allclose((predicted - target).square().mean(), squared / 9)


@pytest.mark.slow
def test_the_mean_is_that_of_the_tasks_metrics(tmp_path):
    outcome, _, _ = attempt(config(experiment="igb/smoke"), tmp_path / "run")
    found = numbers(outcome)
    parts = [
        found[f"test/{name}"] for name in ("income/error", "married/error", "hours/unexplained")
    ]
    assert found["test/mean"] == pytest.approx(sum(parts) / 3, rel=1e-5)
    last = outcome.history[-1]
    assert last["train/weight_income"] == 1
    assert last["train/loss_hours"] > 0


def test_separate_networks_do_not_know_of_each_other(tmp_path):
    states = []
    alone = ["~model.tasks.married", "~model.tasks.hours", "data.tasks=[income]"]
    for number, drop in enumerate(([], alone)):
        folder = tmp_path / f"{number}"
        overrides = ["model.single=true", "trainer.max_epochs=2", *drop]
        attempt(config(*overrides, experiment="igb/smoke"), folder)
        path = max((folder / "checkpoints").iterdir())
        state = torch.load(path, weights_only=False)["state_dict"]
        states.append({k: v for k, v in state.items() if k.startswith("nets.0.")})
    assert states[0]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_separate_networks_are_not_balanced():
    for options in ({"losses": "si"}, {"gradients": "mgda"}):
        with pytest.raises(ValueError, match=r"model\.single: separate networks share nothing"):
            made(single=True, **options)


def test_what_a_loss_balancing_learns_has_a_rate_of_its_own():
    module = made(losses="uw", optimizer=partial(torch.optim.Adam, lr=1e-3))
    optimizer = module.configure_optimizers()
    network, learned = optimizer.param_groups
    assert (network["lr"], learned["lr"]) == (1e-3, 0.025)
    assert learned["params"] == [module.balancer.log_variance]
    assert sum(p.numel() for p in network["params"]) == sum(
        p.numel() for p in module.nets.parameters()
    )
    # The agent of IGBv2 has optimisers of its own.
    agent = made(losses="igbv2", optimizer=partial(torch.optim.Adam, lr=1e-3))
    groups = agent.configure_optimizers().param_groups
    assert len(groups) == 1
    assert sum(p.numel() for p in groups[0]["params"]) == sum(
        p.numel() for p in agent.nets.parameters()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "methods",
    [
        ("igbv2", "nash"),
        ("igbv1", "pcgrad"),
        ("uw", "none"),
        ("dwa_si", "none"),
        ("rlw", "cagrad"),
    ],
    ids="+".join,
)
def test_the_same_bits_after_stops(tmp_path, methods):
    """Stopped in the epochs of random weights, after them, and when fitted."""
    cfg = config(
        *(f"model.losses={methods[0]}", f"model.gradients={methods[1]}", "data.batch_size=8"),
        experiment="igb/smoke",
    )
    whole = attempt(cfg, tmp_path / "whole")[0]
    folders = stopped(cfg, tmp_path, [2, 4, 2])
    rest, resume, _ = attempt(cfg, tmp_path / "rest", previous=folders)
    assert resume.fitted
    assert substance(rest) == substance(whole)


@pytest.mark.slow
def test_the_agent_has_learned_and_acted_in_such_a_run(tmp_path):
    overrides = ["model.losses=igbv2", "data.batch_size=8", "model.density=gaussian"]
    attempt(config(*overrides, experiment="igb/smoke"), tmp_path / "run")
    paths = (tmp_path / "run" / "checkpoints").iterdir()
    checkpoint = torch.load(max(paths, key=lambda p: p.stat().st_mtime), weights_only=False)
    state = checkpoint["state_dict"]
    # 32 steps an epoch, 8 epochs; b is known after the second.
    assert int(state["balancer.step"]) == 256
    assert int(state["balancer.agent.stored"]) == 6 * 32
    critics, actor, alpha = checkpoint["igb_balancer"]["agent"]
    # Trained at steps 100, 150, 200 and 250, 25 times each.
    assert {int(one["step"]) for one in critics["state"].values()} == {100}
    assert len(actor["state"]) == 8
    assert len(alpha["state"]) == 1


@pytest.mark.parametrize(("reward", "wanted"), [("rate", 10.0), ("constant", 1.0)])
def test_reward_follows_the_rate_where_it_is_to(tmp_path, monkeypatch, reward, wanted):
    seen = []
    monkeypatch.setattr(IGBv2, "end_epoch", lambda self, epoch: seen.append(self.reward_scale))
    step = "{_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 1}"
    overrides = ("model.losses=igbv2", f"model.reward={reward}", "trainer.max_epochs=2")
    more = ("model.base_epoch=0", f"+model.scheduler={step}")
    attempt(config(*overrides, *more, experiment="igb/smoke"), tmp_path / "run")
    assert seen == pytest.approx([1.0, wanted])


def test_a_run_steps_along_what_its_gradient_method_gives(tmp_path):
    """And trains what its loss balancing learns: an option that did nothing would be seen."""
    ends = {}
    for losses, gradients in (("ls", "none"), ("ls", "mgda"), ("uw", "none"), ("uw", "pcgrad")):
        chosen = f"model.losses={losses}", f"model.gradients={gradients}"
        cfg = config(*chosen, "trainer.max_epochs=1", experiment="igb/smoke")
        folder = tmp_path / f"{losses}_{gradients}"
        outcome, _, _ = attempt(cfg, folder)
        [file] = sorted((folder / "checkpoints").glob("epoch=*.ckpt"))[-1:]
        ends[losses, gradients] = torch.load(file, weights_only=False)["state_dict"]
        assert len(outcome.history) == 1
    weights = {key: torch.cat([w.flatten() for k, w in end.items() if k.startswith("nets.")])
               for key, end in ends.items()}  # fmt: skip
    assert len({tuple(w.tolist()) for w in weights.values()}) == 4
    for gradients in ("none", "pcgrad"):
        [learned] = [w for k, w in ends["uw", gradients].items() if k.endswith("log_variance")]
        assert bool(learned.ne(0).all())
