"""Attempts at a run that are stopped and go on, without the worker around them."""

from __future__ import annotations

import pytest

from retable.config.compose import compose, hydra_ready
from retable.runs.history import history_text
from retable.training.checkpointing import find_resume
from retable.training.execute import Context, Interrupted, execute

IDENTITY = {"key": "k", "fingerprint": "f", "device": "cpu"}


def scheduler(name, **options):
    rest = "".join(f",{key}: {value}" for key, value in options.items())
    return f"model.scheduler={{_target_: torch.optim.lr_scheduler.{name},_partial_: true{rest}}}"


def config(*overrides, experiment="digits/base", seed=0):
    with hydra_ready():
        made = compose([f"experiment={experiment}", f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


class Stops:
    """Says stop after each of some numbers of epochs."""

    def __init__(self, after):
        self.left = after

    def __call__(self):
        self.left -= 1
        return self.left <= 0


def attempt(cfg, folder, *, previous=(), after=None, identity=IDENTITY, **more):
    told = []
    resume = find_resume(previous, identity, told.append)
    stop = Stops(after) if after else None
    folder.mkdir(parents=True)
    return execute(cfg, Context(folder, identity, resume, stop, **more)), resume, told


def stopped(cfg, base, stops, **more):
    """Attempts that are stopped after so many epochs each; returns their folders, newest first."""
    folders = []
    for number, after in enumerate(stops):
        folder = base / f"{number}"
        with pytest.raises(Interrupted):
            attempt(cfg, folder, previous=folders, after=after, **more)
        folders.insert(0, folder)
    return folders


def substance(outcome):
    return (
        history_text(outcome.history),
        outcome.weights_sha256,
        outcome.results,
        outcome.best_epoch,
    )
