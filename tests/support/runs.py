"""Runs of the tests' own paper, and what is left of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from retable.config.compose import compose, hydra_ready
from retable.runs import frozen, records
from retable.runs.attempts import Launched
from retable.runs.records import Provenance

LAUNCHED = Launched(
    Provenance(commit=None, dirty=None, packages="p", python="3", torch="2", cpu="c", cores=2)
)


def freeze(*overrides, experiment="digits/smoke", seed=0):
    with hydra_ready():
        return frozen.freeze(compose([f"experiment={experiment}", f"seed={seed}", *overrides]))


def newest(run):
    """Record of the newest attempt."""
    return records.read(records.attempts(run.folder)[0] / "record.json")


def record_of(run, attempt=None):
    """Record of a run, or of one of its attempts."""
    folder = run.folder if attempt is None else run.folder / "attempts" / str(attempt)
    return records.read(folder / "record.json")


def checkpoints(run, attempt=1):
    """Checkpoints of an attempt, oldest first."""
    return sorted((run.folder / "attempts" / str(attempt)).glob("checkpoints/epoch=*.ckpt"))


def wait_for(condition: Callable, limit=120.0):
    """What a condition gives, once that is something."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return value
