"""Runs that begin where another ended: done in order, from the right bits, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from retable.launch.dispatch import launch
from retable.launch.summary import Summary
from retable.launch.worker import Exit
from retable.runs import frozen, records
from retable.runs.records import Status
from retable.util.errors import UserError
from support.chains import history, tuned, weights
from support.engine import Bench
from support.kill import FAULTS
from support.runs import freeze, record_of

EXPERIMENTS = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "experiment" / "digits"


@pytest.fixture
def last():
    """An experiment that starts from the tuned one: the third of a chain."""
    file = EXPERIMENTS / "last.yaml"
    head = "# @package _global_\ndefaults: [/experiment/digits/smoke]\n"
    broken = "start.run.overrides=['model.fail=raise']"
    above = f'{{experiment: digits/tuned, overrides: ["{broken}"]}}'
    file.write_text(f"{head}start: {{run: {above}}}\n", encoding="utf-8")
    yield lambda *more: freeze(*more, experiment="digits/last")
    file.unlink()


def test_the_parent_comes_first_and_leaves_its_weights_to_the_child(fake):
    child = tuned("launcher.workers=2")
    assert launch([child]) == Summary(done=2)
    assert [run.key for run in fake.log] == [child.parent.key, child.key]
    assert fake.most == 1
    record, above = record_of(child), record_of(child.parent)
    assert record.started_from.key == above.key
    assert record.started_from.weights_sha256 == above.weights_sha256
    assert above.started_from is None
    before, after = weights(child.parent), weights(child)
    for name in ("net.0.weight", "net.0.bias", "net.1.weight"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["net.4.weight"], after["net.4.weight"])
    [row] = [json.loads(line) for line in history(child)]
    assert row["train/epochs_before"] == 1.0
    assert launch([child]) == Summary(skipped=1)


def test_the_same_child_twice_and_without_its_parent_s_record_in_the_launch_is_the_same(fake):
    child = tuned()
    launch([child])
    first = record_of(child).substance()
    shutil.rmtree(child.folder)
    assert launch([child]) == Summary(done=1)
    assert record_of(child).substance() == first


def test_children_share_a_parent_and_wait_for_it_whatever_the_order(fake):
    children = [tuned(f"model.optimizer.lr={lr}", "launcher.workers=3") for lr in (0.1, 0.2, 0.3)]
    other = freeze("launcher.workers=3", seed=5)
    assert launch([*children, other, children[0].parent]) == Summary(done=5)
    keys = [run.key for run in fake.log]
    # What waits for nobody is not held up by those that do.
    assert keys[:2] == [children[0].parent.key, other.key]
    assert keys[2:] == [child.key for child in children]


def test_a_parent_that_fails_blocks_its_children_and_nobody_else(fake, capsys):
    bad, good = tuned(above=["model.fail=raise"]), tuned()
    summary = launch([bad, good])
    assert (summary.done, len(summary.failed), summary.ok) == (2, 1, False)
    [(run, reason)] = summary.blocked
    assert run is bad
    assert reason == f"it starts from {bad.parent.label}, which is failed"
    assert f"blocked: {bad.label}: {reason}" in capsys.readouterr().err
    assert not (bad.folder / "attempts").exists()
    assert len(launch([bad]).failed) == 1  # tried again, as whatever has failed


def test_a_parent_that_diverges_blocks_until_it_is_retried(fake):
    child = tuned(above=["model.fail=diverge"])
    first = launch([child])
    assert (first.diverged, len(first.blocked)) == (1, 1)
    assert first.blocked[0][1].endswith("which is diverged")
    second = launch([child])
    assert (second.diverged, second.skipped, len(second.blocked)) == (0, 1, 1)
    assert launch([child], retry_diverged=True).diverged == 1


def test_blocking_goes_down_the_chain(fake, last):
    run = last()
    assert len(run.chain) == 2
    summary = launch([run])
    assert (len(summary.failed), len(summary.blocked)) == (1, 2)
    good = last("start.run.overrides=[]", "launcher.workers=1")
    assert launch([good]) == Summary(done=3)
    assert record_of(good).started_from.key == good.parent.key
    assert record_of(good.parent).started_from.key == good.chain[0].key


def test_a_worker_by_itself_refuses_what_cannot_start(fake):
    from retable.launch import worker
    from support.runs import LAUNCHED

    child = tuned()
    frozen.write(child)
    with pytest.raises(UserError, match="which is not done yet"):
        worker.perform(child.folder, LAUNCHED)


def test_a_job_ends_a_run_that_cannot_start_as_blocked(fake, runs):

    bad, good = tuned(above=["model.fail=raise"]), tuned()
    for run in (bad, good, good.parent):
        frozen.write(run)
    bench = Bench(runs, bad, good, good.parent).go()
    reason = f"it starts from {bad.parent.label}, which is not done yet"
    assert bench.said == [("blocked", reason), ("ended", Status.DONE), ("ended", Status.DONE)]
    assert not bench.supervisor.ok
    assert not bench.supervisor.left


def test_what_another_runner_does_is_waited_for(fake):
    child = tuned()
    asked = []

    def script(run, pid):
        from retable.launch.worker import perform

        asked.append(run.key)
        if len(asked) == 1:  # somebody else holds the parent, and has let go of it a moment later
            return Exit.LEASED
        return perform(run.folder, fake_launched())

    def fake_launched():
        from support.runs import LAUNCHED

        return LAUNCHED

    fake.script = staticmethod(script)
    assert launch([child]) == Summary(done=2)
    assert asked == [child.parent.key, child.parent.key, child.key]


def retable(*arguments, **environment):
    command = [sys.executable, "-m", "retable", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.slow
def test_killed_at_either_end_it_goes_on_to_the_same_bits(runs, tmp_path):
    """By the command line, with the engine's own processes; two children at once."""
    sweep = ["train", "-m", "experiment=digits/tuned", "seed=0", "model.optimizer.lr=0.1,0.2"]
    sweep += ["trainer.max_epochs=3", "start.run.overrides=['trainer.max_epochs=3']"]
    assert retable(*sweep, "launcher.workers=2").returncode == 0
    children = [
        tuned(f"model.optimizer.lr={lr}", "trainer.max_epochs=3", above=["trainer.max_epochs=3"])
        for lr in (0.1, 0.2)
    ]
    everyone = [children[0].parent, *children]
    undisturbed = [record_of(run).substance() for run in everyone]
    shutil.rmtree(runs)
    faults = tmp_path / "faults"
    faults.mkdir()
    for order in (
        "checkpoint-half:2",
        "checkpoint-renamed:1",
        "record-unpublished",
        "lease-linked",
    ):
        (faults / "order").write_text(order)
        retable(*sweep, "launcher.workers=2", **{FAULTS: str(faults)})
    (faults / "order").unlink(missing_ok=True)
    done = retable(*sweep, "launcher.workers=2")
    assert done.returncode == 0, done.stderr
    assert [record_of(run).substance() for run in everyone] == undisturbed
    assert sum(len(records.attempts(run.folder)) for run in everyone) > 3
    bits = {record_of(child).started_from.weights_sha256 for child in children}
    assert bits == {record_of(children[0].parent).weights_sha256}


def test_interrupted_before_its_turn_a_child_leaves_nothing(fake):
    child = tuned()

    def script(run, pid):
        os.kill(os.getpid(), signal.SIGINT)
        return Exit.FAILED

    fake.script = staticmethod(script)
    summary = launch([child])
    assert summary.stopped
    assert not summary.blocked
    assert not child.folder.exists()


@pytest.mark.slow
def test_every_process_of_a_split_run_begins_with_the_same(runs):
    child = tuned("device.devices=2")
    assert launch([child]) == Summary(done=2)
    assert record_of(child).devices == 2
    before, after = weights(child.parent), weights(child)
    assert torch.equal(before["net.0.weight"], after["net.0.weight"])
    [row] = [json.loads(line) for line in history(child)]
    assert row["train/epochs_before"] == 1.0  # a mean over the processes
