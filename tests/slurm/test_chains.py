"""Chains on a real cluster: submitted at once and left, whatever befalls the first run."""

from __future__ import annotations

import pytest

from retable.launch.dispatch import launch
from retable.launch.slurm.submission import all_of
from retable.runs import records
from retable.runs.records import Status
from support.runs import checkpoints, freeze, record_of
from support.slurm import until
from support.submit import ON, orders, said  # noqa: F401 - fixtures

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

QUICK = (*ON, "launcher.lease_s=8", "launcher.grace_s=8")


def tuned(*overrides, above=(), lr=0.1):
    inside = ",".join(f"'{text}'" for text in above)
    start = [f"start.run.overrides=[{inside}]"] if above else []
    options = [*QUICK, *start, f"model.optimizer.lr={lr}", *overrides]
    return freeze(*options, experiment="digits/tuned")


def jobs_of(runs):
    [made] = all_of(runs)
    return made, [array.job for array in made.header.arrays]


def test_both_are_submitted_at_once_and_a_preempted_parent_is_waited_for(cluster, runs, orders):
    """No job waits on a node for another, and nobody has to come back."""
    slow = ["model.sleep=1", "trainer.max_epochs=6"]
    where = "cluster.options.nodelist=n1"
    children = [tuned(where, above=slow, lr=lr) for lr in (0.1, 0.2)]
    parent = children[0].parent
    summary = launch(children, orders=orders)
    assert summary.queued == 3
    _, (first, second) = jobs_of(runs)
    shown = cluster.slurm("scontrol", "show", "job", second)
    assert f"afterany:{first}_" in shown
    until(lambda: checkpoints(parent), 120, "the parent has done an epoch")
    assert all(not (child.folder / "attempts").exists() for child in children)
    cluster.submit("sleep 2", "-p", "high", "--nodelist=n1", "--ntasks=2", "--nodes=1")
    until(lambda: all(map(record_of, children)), 240, "both children have a record")
    assert len(records.attempts(parent.folder)) > 1, "it was preempted"
    above = record_of(parent)
    for child in children:
        record = record_of(child)
        assert record.status is Status.DONE
        assert record.started_from.weights_sha256 == above.weights_sha256
        assert len(records.attempts(child.folder)) == 1
    assert launch(children, orders=orders).skipped == 2


def test_a_parent_that_fails_blocks_its_children_and_a_later_launch_goes_on(
    cluster, runs, orders, retable
):
    """In one array with a parent that fails there is one that does not; its child is done."""
    bad, good = tuned(above=["model.fail=raise"]), tuned()
    launch([bad, good], orders=orders)
    made, (_, second) = jobs_of(runs)
    until(lambda: record_of(good), 240, "the other child is done")
    until(lambda: not cluster.slurm("squeue", "--noheader"), 120, "the queue is empty")
    assert record_of(bad.parent, 1).status is Status.FAILED
    assert not (bad.folder / "attempts").exists()
    events = [event for task in (0, 1) for event in made.events(1, task)]
    [blocked] = [event for event in events if event["event"] == "blocked"]
    assert blocked["error"] == f"it starts from {bad.parent.label}, which is failed"
    assert sorted(cluster.accounted(second)) == ["COMPLETED", "FAILED"]
    # The child is open still: it is submitted with its parent again, and nothing else is.
    assert launch([bad, good], orders=orders).queued == 2
