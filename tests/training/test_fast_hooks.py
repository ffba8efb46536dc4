"""Cheaper surroundings of a training step do what Lightning's own do."""

from __future__ import annotations

import inspect
import re

import pytorch_lightning as pl
import torch

from retable.training import checkpointing
from retable.training.execute import execute
from retable.training.fast_hooks import NoProfiler, Together
from retable.training.schedules import PlateauSteps
from retable.training.tested import FinishWeights

HOOKS = [name for name in dir(pl.Callback) if name.startswith("on_")]


class Told(pl.Callback):
    """Notes which hooks it was called at."""

    def __init__(self, name: str, notes: list[tuple[str, str]]) -> None:
        self.name, self.notes = name, notes

    def __getattribute__(self, attribute: str) -> object:
        if attribute in HOOKS:
            notes, name = self.notes, self.name
            return lambda *_: notes.append((name, attribute))
        return super().__getattribute__(attribute)


def test_members_are_called_in_order_at_every_hook_that_is_passed_on():
    notes: list[tuple[str, str]] = []
    together = Together([Told("first", notes), Told("second", notes)])
    passed = [name for name in HOOKS if name in vars(Together)]
    for name in passed:
        n_arguments = len(inspect.signature(getattr(together, name)).parameters)
        getattr(together, name)(*[None] * n_arguments)
    assert notes == [(who, hook) for hook in passed for who in ("first", "second")]


def test_every_hook_of_the_run_s_own_callbacks_is_passed_on():
    """A hook that is added to one of them and not here would never be called."""
    own = [checkpointing.EpochSeeds, checkpointing.Guard, checkpointing.Stop]
    own += [checkpointing.Checkpointer, PlateauSteps, FinishWeights]
    (together,) = re.findall(r"Together\(\s*\[(.*?)\n\s*\]", inspect.getsource(execute), re.S)
    named = re.findall(r"^\s+(\w+)", together, re.M)
    assert named == ["Stop", "EpochSeeds", "Guard", "PlateauSteps", "finish", "checkpointer"]
    for kind in own:
        for name in set(vars(kind)) & set(HOOKS):
            assert name in vars(Together), f"{kind.__name__}.{name}"


def test_together_comes_after_early_stopping_and_the_module():
    """Lightning calls callbacks of this kind last; a checkpoint has to see all that was logged."""
    from pytorch_lightning.callbacks import Checkpoint

    assert issubclass(Together, Checkpoint)


def test_the_profiler_is_a_context_that_can_be_entered_within_itself():
    profiler = NoProfiler()
    with profiler.profile("outer"), profiler.profile("inner"):
        pass


def test_a_module_knows_the_hook_it_is_in():
    """The shortcut past torch keeps to what Lightning reads."""
    from retable.papers.base import PaperModule

    module = PaperModule(seed=0)
    module._current_fx_name = "training_step"
    assert module._current_fx_name == "training_step"
    module.layer = torch.nn.Linear(2, 2)
    assert len(list(module.parameters())) == 2
