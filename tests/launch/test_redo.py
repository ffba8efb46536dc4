"""Stale runs done again: old records stand until the new ones are there; nothing is left over."""

from __future__ import annotations

import pytest

from retable.launch.dispatch import launch
from retable.launch.redo import REDO, redo, tidy
from retable.launch.summary import Summary
from retable.launch.worker import Exit, perform
from support.again import published, rewrite
from support.runs import LAUNCHED, freeze


@pytest.fixture
def stale(fake):
    """Three finished runs of other code."""
    runs = [freeze(seed=seed) for seed in range(3)]
    launch(runs)
    for run in runs:
        rewrite(run, fingerprint="f" * 64)
    fake.log.clear()
    return runs


def here(runs, home):
    return launch(runs)


def test_every_record_is_replaced(stale, runs):
    before = [published(run) for run in stale]
    summary, failed = redo(stale, here)
    assert (summary.done, failed) == (3, [])
    for run, old in zip(stale, before, strict=True):
        new = published(run)
        assert (new.fingerprint, new.attempt) == (run.fingerprint, 2)
        assert new.substance() == old.substance()
    assert not (runs / REDO).exists()


def test_one_that_fails_keeps_its_old_record(stale, runs, fake):
    real = fake.script

    def script(run, pid):
        return Exit.FAILED if run.config.seed == 1 else perform(run.folder, LAUNCHED)

    fake.script = script
    summary, failed = redo(stale, here)
    assert (summary.done, len(summary.failed), failed) == (2, 1, [])
    assert [published(run).fingerprint == run.fingerprint for run in stale] == [True, False, True]
    fake.script = real
    redo(stale[1:2], here)
    assert published(stale[1]).fingerprint == stale[1].fingerprint


def test_what_is_left_to_a_cluster_stays_as_it_is(stale, runs):
    """Its jobs put the records in place; what they leave at the side goes later."""
    home = []
    slurm = [freeze("launcher=slurm", "cluster=dev", seed=run.config.seed) for run in stale]

    def submit(some, folder):
        home.append(folder)
        assert [run.key for run in some] == [run.key for run in stale]
        assert all(run.config.paths.runs.startswith(str(runs / REDO)) for run in some)
        return Summary(queued=len(some))

    summary, failed = redo(slurm, submit)
    assert (summary.queued, failed, home) == (3, [], [runs])
    assert {published(run).fingerprint for run in stale} == {"f" * 64}


def test_what_a_job_did_before_it_was_killed_is_put_in_place_and_not_done_again(stale, runs):
    slurm = [freeze("launcher=slurm", "cluster=dev", seed=run.config.seed) for run in stale]
    sides = []

    def done_but_not_placed(some, home):
        local = [
            freeze(f"paths.runs={some[0].config.paths.runs}", seed=r.config.seed) for r in some
        ]
        launch(local)
        sides.extend(run.folder for run in local)
        return Summary(queued=len(some))

    redo(slurm, done_but_not_placed)
    assert {published(run).fingerprint for run in stale} == {"f" * 64}
    _, failed = redo(slurm, pytest.fail)
    assert failed == []
    assert [published(run).fingerprint for run in stale] == [run.fingerprint for run in stale]
    queued = str(sides[0].relative_to(runs))
    tidy(runs, stale, lambda folder: folder == queued)
    assert [side.exists() for side in sides] == [True, False, False]
    tidy(runs, stale, lambda _: False)
    assert not (runs / REDO).exists()


def test_tidying_leaves_what_is_not_in_its_place(stale, runs):
    side = runs / REDO / ("a" * 16)
    waiting = freeze(f"paths.runs={side}", seed=0)
    launch([waiting])
    tidy(runs, stale, lambda _: False)
    assert waiting.folder.exists()
