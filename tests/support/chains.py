"""Runs of the tests' own paper that start from another one, and what these have left."""

from __future__ import annotations

import torch

from support.runs import checkpoints, freeze


def tuned(*overrides, above=(), seed=0):
    """A run that starts from the smoke one, which has been changed so."""
    inside = ",".join(f"'{text}'" for text in above)
    start = [f"start.run.overrides=[{inside}]"] if above else []
    return freeze(*start, *overrides, experiment="digits/tuned", seed=seed)


def weights(run):
    return torch.load(checkpoints(run)[-1], weights_only=False)["state_dict"]


def history(run):
    return (run.folder / "attempts/1/history.jsonl").read_text().splitlines()
