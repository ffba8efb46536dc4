"""Submitted runs: to a fake SLURM or a rehearsal cluster, and what is in its queue."""

from __future__ import annotations

from collections import Counter

import pytest

from retable.launch.slurm.submission import Submission, all_of
from retable.launch.slurm.submit import Orders
from support.runs import freeze

ON = ("launcher=slurm", "cluster=dev")
HELD = "cluster.options={hold: true}"  # such jobs stay in the queue


@pytest.fixture
def said():
    return []


@pytest.fixture
def orders(said):
    return Orders(say=said.append)


def some(n=3, *overrides):
    first = freeze(*ON, *overrides)
    return [first.with_seed(seed) for seed in range(n)]


def the_submission(runs) -> Submission:
    """The only one that runs are in."""
    [found] = all_of(runs)
    return found


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []


def queued(cluster, what="%i"):
    """A field of all jobs in the queue, as squeue shows them, tasks of arrays together."""
    return sorted(cluster.slurm("squeue", "--noheader", f"--format={what}").splitlines())


def submitted(runs):
    """How often each run is in the tasks of a submission."""
    return Counter(
        entry.folder
        for made in all_of(runs)
        for array in made.header.arrays
        for task in made.tasks(array.number).tasks
        for entry in task
    )
