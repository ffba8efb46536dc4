"""Equal steps within a training step: few are counted, and what is found is that of all."""

from __future__ import annotations

import pytest
import torch

from retable.launch.rehearsal import count
from retable.launch.rehearsal.count import count_step
from retable.launch.rehearsal.equal import FEW, many_of, with_few
from retable.launch.rehearsal.fake import faked
from retable.papers.equilibrium_prop.module import Equilibrium
from retable.training.execute import build
from support.runs import freeze

OPTIONS = {"precision": "32-true", "accumulate_grad_batches": 1}
STEPS = {
    ("ep", "smoke"): [],
    ("bp", "smoke"): ["model.rule=bp"],
    ("penalty", "smoke_loop"): ["model.homeostasis=0.1", "model.draws=2"],
    ("online", "smoke_online"): [],
    ("images", "smoke_conv"): ["model.half_free=true", "model.homeostasis=0.0"],
    ("images, two points", "smoke_conv"): ["model.points=2", "model.homeostasis=0.0"],
}


def counted(experiment, overrides=(), options=OPTIONS):
    """Counts of a step of ten images, and the module."""
    few = ["model.free_steps=7", "model.nudged_steps=5", *overrides]
    config = freeze(*few, experiment=f"equilibrium_prop/{experiment}").config
    with faked():
        data, module = build(config.model_dump(mode="json"))
        shape = (16, 16) if "conv" in experiment else (8, 8)
        images = torch.rand(10, 3 if "conv" in experiment else 1, *shape)
        return count_step(module, data, (images, torch.arange(10)), options), module


@pytest.mark.slow
@pytest.mark.parametrize(("named", "overrides"), STEPS.items(), ids=[name for name, _ in STEPS])
def test_few_equal_steps_and_what_each_adds_are_all_of_them(monkeypatch, named, overrides):
    few, module = counted(named[1], overrides)
    had = {"free_steps": module.free_steps, "nudged_steps": module.nudged_steps}
    assert many_of(module)
    monkeypatch.setattr(Equilibrium, "equal_steps", ())
    every, module = counted(named[1], overrides)
    assert many_of(module) == {}
    assert few == every
    assert had == {"free_steps": module.free_steps, "nudged_steps": module.nudged_steps}


@pytest.mark.slow
def test_equal_steps_are_few_also_where_gradients_add_up(monkeypatch):
    options = {**OPTIONS, "accumulate_grad_batches": 2}
    few, _ = counted("smoke", options=options)
    monkeypatch.setattr(Equilibrium, "equal_steps", ())
    assert counted("smoke", options=options)[0] == few


def test_steps_that_are_done_are_few(monkeypatch):
    done = []
    monkeypatch.setattr(Equilibrium, "free", _told(done))
    counted("smoke")
    assert done == [FEW, FEW, FEW + 1, FEW]  # the first gives the optimiser its state
    done.clear()
    counted("smoke", ["model.free_steps=3", "model.nudged_steps=3"])
    assert done == [3, 3]


def _told(done):
    free = Equilibrium.free
    return lambda self, system: done.append(self.free_steps) or free(self, system)


@pytest.mark.slow
def test_what_is_kept_of_each_step_is_counted_in_full(monkeypatch):
    """A module that names steps through which gradients go says what is not so."""
    overrides = ["model.rule=bp", "model.free_steps=3"]
    monkeypatch.setattr(Equilibrium, "equal_steps", ("nudged_steps",))
    seen = []
    counts = count._counts
    monkeypatch.setattr(count, "_counts", lambda *a: seen.append(a[-1]) or counts(*a))
    few, _ = counted("smoke", overrides)
    assert seen == [[{"nudged_steps": FEW}, {"nudged_steps": FEW + 1}], [{"nudged_steps": 5}]]
    monkeypatch.setattr(Equilibrium, "equal_steps", ())
    every, _ = counted("smoke", overrides)
    assert few == every


def test_a_small_step_takes_few_of_them():
    config = freeze(experiment="equilibrium_prop/smoke").config.model_dump(mode="json")
    _, module = build(config)
    few = with_few(config, module)["model"]
    assert few == config["model"] | {"free_steps": FEW, "nudged_steps": FEW}
    assert config["model"]["free_steps"] == 30
