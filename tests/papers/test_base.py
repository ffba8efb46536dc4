"""What all papers' modules share: tasks, memory format, what is said of a mistake."""

from __future__ import annotations

import pytest
import torch
from retable.papers.digits.module import Perceptron
from torch import nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import PaperModule, StepOutput
from retable.training.execute import Context, execute
from retable.util.errors import UserError
from support.training import attempt, config, stopped, substance


class Convolutions(PaperModule):
    def build_model(self):
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))


def test_channels_come_last_in_memory_and_nowhere_else():
    torch.manual_seed(0)
    plain = Convolutions(seed=0)
    torch.manual_seed(0)
    last = Convolutions(seed=0, channels_last=True)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, last.state_dict()[name])
    assert last.net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert plain.net[0].weight.is_contiguous()
    x = torch.randn(2, 3, 8, 8)
    out = last.net(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, plain.net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_stop_changes_no_bit_with_the_channels_last(monkeypatch, tmp_path):
    def build_model(self):
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3),
            nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip

    monkeypatch.setattr(Perceptron, "build_model", build_model)
    momentum = "model.optimizer={_target_: torch.optim.SGD,_partial_: true,lr: 0.05,momentum: 0.9}"
    cfg = config(momentum, "model.channels_last=true", "trainer.max_epochs=3")
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    folders = stopped(cfg, tmp_path / "parts", [1, 1])
    resumed, _, _ = attempt(cfg, tmp_path / "last", previous=folders)
    assert substance(resumed) == substance(whole)
    plain, _, _ = attempt(config(momentum, "trainer.max_epochs=3"), tmp_path / "plain")
    ours, theirs = (run.history[-1]["train/loss"] for run in (whole, plain))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_two_tasks_are_logged_side_by_side(monkeypatch, tmp_path):
    def build_metrics(self):
        accuracy = MetricCollection({"accuracy": MulticlassAccuracy(10, average="micro")})
        halves = MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro")})
        self.use_metrics({"digit": accuracy, "high": halves})

    def shared_step(self, batch):
        x, y = batch
        logits, high = self.net(x), (y >= 5).long()
        sums = logits.exp().unflatten(1, (2, 5)).sum(2).log()
        loss = F.cross_entropy(logits, y)
        logs = {"high": F.cross_entropy(sums, high)}
        return StepOutput(loss, logs=logs, tasks={"digit": (logits, y), "high": (sums, high)})

    plain = execute(config("trainer.max_epochs=2"), Context(tmp_path / "plain"))
    monkeypatch.setattr(Perceptron, "build_metrics", build_metrics)
    monkeypatch.setattr(Perceptron, "shared_step", shared_step)
    outcome = execute(config("trainer.max_epochs=2"), Context(tmp_path / "tasks"))
    assert outcome.weights_sha256 == plain.weights_sha256
    for row, other in zip(outcome.history, plain.history, strict=True):
        assert row["val/digit/accuracy"] == other["val/accuracy"]
        assert row["train/digit/accuracy"] == other["train/accuracy"]
        assert 0.5 < row["val/high/accuracy"] <= 1.0
    found = {r.metric for r in outcome.results}
    assert {"test/digit/accuracy", "test/high/accuracy", "test/loss", "test/high"} <= found


def test_a_step_that_returns_a_tensor_is_told_what_to_return(monkeypatch, tmp_path):
    monkeypatch.setattr(Perceptron, "shared_step", lambda self, batch: torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"returned a Tensor; it has to return StepOutput\(loss"):
        execute(config(), Context(tmp_path))


def test_options_that_are_set_too_late_are_said_to_be():
    class Late(PaperModule):
        def __init__(self, **options):
            super().__init__(**options)
            self.width = 3

        def build_model(self):
            self.net = nn.Linear(2, self.width)

    with pytest.raises(UserError, match=r"'width'; set a module's options before super"):
        Late(seed=0)

    class Other(PaperModule):
        def build_model(self):
            self.net = nn.Linearr(2, 3)  # of another object: the message stays as it is

    with pytest.raises(AttributeError, match=r"^(?!.*super).*Linearr"):
        Other(seed=0)


@pytest.mark.parametrize("early", [True, False])
def test_manual_optimisation_may_be_said_before_or_after(early):
    class Manual(PaperModule):
        def __init__(self):
            if early:
                self.automatic_optimization = False
            super().__init__(seed=0)
            if not early:
                self.automatic_optimization = False

    assert not Manual().automatic_optimization
    assert PaperModule(seed=0).automatic_optimization
