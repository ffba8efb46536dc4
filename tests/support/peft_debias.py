"""Runs of the two phases, seconds each, and what they leave for each other."""

from __future__ import annotations

from retable.training.checkpointing import find_resume
from retable.training.execute import Context, execute
from retable.training.start import Start
from support.training import IDENTITY
from support.training import config as composed

PATCHES = ("adapter", "prefix_flat", "prompt_input", "lora")
SFT = ("model.trained=sft", "model.sft_rewind=1")


def config(name, *overrides, seed=0):
    """Of a smoke experiment that is given its start by hand."""
    return composed(*overrides, "start=null", experiment=f"peft_debias/r0_smoke_{name}", seed=seed)


def finished(cfg, folder, start=None):
    """A run's outcome, and what the next one begins with."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = execute(cfg, Context(folder, IDENTITY, start=start))
    return outcome, Start(find_resume([folder], IDENTITY, print).weights)


def numbers(outcome):
    return {r.metric: r.value for r in outcome.results if r.step is None}


def changed(start, end, names):
    """Those of the names whose tensors differ in any bit."""
    return {name for name in names if not start.weights[name].equal(end.weights[name])}
