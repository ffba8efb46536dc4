"""Optimisers that evaluate a loss several times, and schedules: as a plain loop would have it."""

from __future__ import annotations

import copy

import pytest
import torch
from retable.papers.digits.module import Perceptron
from retable.papers.digits.sam import SAM
from torch.nn import functional as F

from retable.config.compose import compose, hydra_ready
from retable.launch.preflight import first_refusal
from retable.training.data_parallel import epoch_seed
from retable.training.execute import Context, build, execute, seed_everything
from retable.training.schedules import Schedule
from retable.util.errors import UserError
from support.training import attempt, scheduler, stopped, substance

INNER = "base_optimizer: {_target_: torch.optim.SGD,_partial_: true,lr: 0.1,momentum: 0.9}"
SAM_AROUND = f"model.optimizer={{_target_: retable.papers.digits.sam.SAM,_partial_: true,{INNER}}}"
LBFGS = "model.optimizer={_target_: torch.optim.LBFGS,_partial_: true,lr: 0.1,max_iter: 3}"
SGD = "model.optimizer={_target_: torch.optim.SGD,_partial_: true,lr: 1.0}"
SHORT = ["data.train_size=350", "trainer.max_epochs=3"]  # the last of 4 batches is not full
STEP_LR = scheduler("StepLR", step_size=1, gamma=0.5)


def config(*overrides):
    with hydra_ready():
        made = compose(["experiment=digits/base", "seed=0", *SHORT, *overrides])
    return made.model_dump(mode="json")


def loop(cfg, make, evaluations=1):
    """Train the module's network by hand.

    Returns:
        Mean loss of each epoch at the weights that its steps begin with, and the network.
    """
    data, module = build(cfg)
    data.setup("fit")
    net, loader = module.net.train(), data.train_dataloader()
    optimizer = make(net.parameters())
    losses = []
    for epoch in range(cfg["trainer"]["max_epochs"]):
        loader.sampler.set_epoch(epoch)
        seed_everything(epoch_seed(0, epoch))
        total, n = 0.0, 0
        for x, y in loader:
            seen = []

            def closure(x=x, y=y, seen=seen):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                seen.append(loss.item())
                return loss

            optimizer.step(closure)
            assert len(seen) >= evaluations
            total, n = total + seen[0] * len(y), n + len(y)
        losses.append(total / n)
    return losses, net


@pytest.mark.parametrize(
    ("given", "make"),
    [
        (SAM_AROUND, lambda p: SAM(p, lambda q: torch.optim.SGD(q, lr=0.1, momentum=0.9))),
        (LBFGS, lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3)),
    ],
    ids=["sam", "lbfgs"],
)
def test_a_loss_that_is_evaluated_several_times_is_metered_once(given, make, tmp_path, monkeypatch):
    cfg = config(given)
    ends = []
    monkeypatch.setattr(
        Perceptron, "on_test_start", lambda self: ends.append(self.net), raising=False
    )
    outcome = execute(cfg, Context(tmp_path))
    losses, net = loop(cfg, make, evaluations=2)
    assert [row["train/loss"] for row in outcome.history] == pytest.approx(losses, rel=1e-7)
    (ours,) = ends
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name


@pytest.mark.slow
def test_the_state_of_an_optimiser_inside_of_another_survives_a_stop(tmp_path):
    """The usual SAM keeps the inner momentum where no state_dict sees it."""
    cfg = config(SAM_AROUND, scheduler("StepLR", step_size=1, gamma=0.5), "trainer.max_epochs=4")
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    for stops in ([1], [2, 1]):
        base = tmp_path / "-".join(map(str, stops))
        folders = stopped(cfg, base, stops)
        resumed, resume, _ = attempt(cfg, base / "last", previous=folders)
        assert resume.nested[0]["base_optimizer"]["state"]
        assert substance(resumed) == substance(whole), stops
    plain = config(SGD.replace("1.0", "0.1"), "trainer.max_epochs=4")
    assert attempt(plain, tmp_path / "plain")[0].weights_sha256 != whole.weights_sha256


def rates(overrides, monkeypatch, tmp_path):
    """Learning rate of every training batch, by epoch."""
    seen, shared_step = [], Perceptron.shared_step

    def noted(self, batch):
        if self.training:
            optimizer = self.trainer.optimizers[0]
            seen.append((self.trainer.current_epoch, optimizer.param_groups[0]["lr"]))
        return shared_step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Perceptron, "shared_step", noted)
        outcome = execute(config(*overrides), Context(tmp_path / "run"))
    epochs = range(3)
    return [[rate for at, rate in seen if at == epoch] for epoch in epochs], outcome


@pytest.mark.slow
@pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])
@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("epoch", [[1.0] * 4, [0.5] * 4, [0.25] * 4]),
        ("epoch_start", [[0.5] * 4, [0.25] * 4, [0.125] * 4]),
        ("step", [[0.5**n for n in range(k, k + 4)] for k in (0, 4, 8)]),
    ],
)
def test_a_schedule_is_stepped_when_its_interval_says(
    interval, expected, manual, monkeypatch, tmp_path
):
    given = [
        SGD,
        STEP_LR,
        f"model.manual={manual}".lower(),
        f"model.scheduler_interval={interval}",
    ]
    found, outcome = rates(given, monkeypatch, tmp_path)
    assert found == expected
    # What a module logs at the end of an epoch is the rate after the step of that epoch.
    after = {"epoch": [0.5, 0.25, 0.125], "epoch_start": [0.5, 0.25, 0.125]}
    last = [row["train/lr"] for row in outcome.history]
    assert last == after.get(interval, [0.5**4, 0.5**8, 0.5**12])
    other, _ = rates([*given[:2], "model.manual=false", given[3]], monkeypatch, tmp_path / "other")
    assert other == expected


def test_manual_optimisation_with_a_schedule_is_the_automatic_one(tmp_path):
    same = [SGD, STEP_LR]
    automatic = execute(config(*same), Context(tmp_path / "automatic"))
    manual = execute(config(*same, "model.manual=true"), Context(tmp_path / "manual"))
    assert manual.weights_sha256 == automatic.weights_sha256
    assert manual.history == automatic.history
    without = execute(config(SGD, "model.manual=true"), Context(tmp_path / "without"))
    assert without.weights_sha256 != manual.weights_sha256


def test_accumulated_batches_are_one_step_of_a_schedule(monkeypatch, tmp_path):
    given = [SGD, STEP_LR, "model.scheduler_interval=step", "trainer.accumulate_grad_batches=2"]
    found, _ = rates(given, monkeypatch, tmp_path)
    assert found[0] == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize("manual", ["true", "false"])
@pytest.mark.parametrize("interval", ["epoch", "epoch_start", "step"])
def test_a_stop_loses_no_step_of_a_schedule(interval, manual, tmp_path):
    cfg = config(SGD, STEP_LR, f"model.manual={manual}", f"model.scheduler_interval={interval}")
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    folders = stopped(cfg, tmp_path / "parts", [1, 1])
    resumed, _, _ = attempt(cfg, tmp_path / "last", previous=folders)
    assert substance(resumed) == substance(whole)


PLATEAU = scheduler("ReduceLROnPlateau", patience=0, factor=0.5, threshold=0.9)


@pytest.mark.parametrize("overridden", [False, True])
@pytest.mark.parametrize("manual", ["true", "false"])
def test_a_plateau_is_followed_also_by_a_module_with_hooks_of_its_own(
    manual, overridden, monkeypatch, tmp_path
):
    if overridden:
        monkeypatch.setattr(Perceptron, "on_train_epoch_end", lambda self: None)
    found, _ = rates([SGD, PLATEAU, f"model.manual={manual}"], monkeypatch, tmp_path)
    assert found == [[1.0] * 4, [1.0] * 4, [0.5] * 4]


@pytest.mark.parametrize("interval", ["epoch_start", "step"])
def test_a_plateau_is_followed_at_the_end_of_an_epoch_only(interval):
    said = first_refusal([config(SGD, PLATEAU, f"model.scheduler_interval={interval}")])
    assert said is not None
    assert "scheduler_interval" in said[1]
    assert "leave it out" in said[1]


def test_a_schedule_that_nobody_would_step_is_refused(monkeypatch, tmp_path):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    monkeypatch.setattr(Perceptron, "configure_optimizers", configure_optimizers)
    cfg = config(SGD, STEP_LR, "model.manual=true")
    with pytest.raises(ValueError, match=r"model\.scheduler: Perceptron makes its optimisers"):
        execute(cfg, Context(tmp_path))


def test_an_interval_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"model\.scheduler_interval: 'batch' is none; valid"):
        Schedule("batch", "val/loss")


@pytest.mark.parametrize(
    ("option", "cure"),
    [
        ("trainer.gradient_clip_val=1.0", "self.clip_gradients(optimizer, gradient_clip_val=...)"),
        ("trainer.accumulate_grad_batches=2", "step only every so many batches"),
    ],
)
def test_what_lightning_does_not_do_in_manual_optimisation_is_refused(option, cure):
    cfg = config(SGD, "model.manual=true", option)
    key = option.partition("=")[0]
    with pytest.raises(UserError, match=f"{key}: Perceptron optimises by hand"):
        build(cfg)
    index, said = first_refusal([cfg])
    assert index == 0
    assert cure in said
    build(config(SGD, option))


def test_several_evaluations_and_accumulated_batches_do_not_go_together(tmp_path):
    """Only the last batch's gradient would be taken at the second point."""
    cfg = config(SAM_AROUND, "trainer.accumulate_grad_batches=2")
    with pytest.raises(UserError, match=r"trainer\.accumulate_grad_batches: must be 1 for"):
        execute(cfg, Context(tmp_path))


def test_optimising_by_hand_without_a_step_that_does_so_is_refused(monkeypatch):
    monkeypatch.delattr(Perceptron, "training_step")
    with pytest.raises(UserError, match="optimises by hand, but has no training_step"):
        build(config(SGD, "model.manual=true"))
    build(config(SGD))


def test_an_optimiser_that_is_missing_is_named():
    said = first_refusal([config("~model.optimizer")])
    assert said is not None
    assert said[1] == "model.optimizer: Perceptron needs one, as stages has 'fit'"


def test_an_option_that_lightning_does_not_know_is_not_handed_to_it(tmp_path):
    cfg = config(SGD)
    other = copy.deepcopy(cfg)
    other["trainer"]["of_a_later_version"] = 3
    first = execute(cfg, Context(tmp_path / "1"))
    assert execute(other, Context(tmp_path / "2")) == first
