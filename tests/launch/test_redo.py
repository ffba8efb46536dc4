"""Stale runs done again: old records stand until the new ones are there; nothing is left over."""

from __future__ import annotations

import pytest

from retable.launch.dispatch import launch
from retable.launch.redo import REDO, launch_anew, redo, stale_among, tidy
from retable.launch.summary import Summary
from retable.launch.worker import Exit, perform
from retable.runs import frozen
from retable.runs.lease import Lease
from retable.runs.records import Status
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
    summary = redo(stale, here)
    assert (summary.done, summary.kept) == (3, [])
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
    summary = redo(stale, here)
    assert (summary.done, len(summary.failed), summary.kept) == (2, 1, [])
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

    summary = redo(slurm, submit)
    assert (summary.queued, summary.kept, home) == (3, [], [runs])
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
    assert redo(slurm, pytest.fail).kept == []
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


def test_one_that_diverges_by_the_present_code_has_that_for_its_result(stale, fake):
    def script(run, pid):
        code = perform(run.folder, LAUNCHED)
        rewrite(run, status=Status.DIVERGED, results=[], weights_sha256=None)
        return code

    fake.script = script
    redo(stale[:1], here)
    new = published(stale[0])
    assert (new.status, new.fingerprint) == (Status.DIVERGED, stale[0].fingerprint)


def test_a_launch_anew_does_what_is_missing_and_what_is_stale(stale, fake):
    missing = freeze(seed=3)
    good = freeze(seed=4)
    launch([good])
    fake.log.clear()
    assert [run.key for run in stale_among([good, *stale, missing])] == [r.key for r in stale]
    summary = launch_anew([good, stale[0], missing, stale[0]])
    assert (summary.done, summary.skipped, summary.stale) == (2, 1, 0)
    assert [run.key for run in fake.log] == [stale[0].key, missing.key]
    assert stale_among([stale[0]]) == []
    assert stale_among(stale) == stale[1:]


def test_what_failed_after_earlier_edits_goes_when_a_later_one_succeeds(stale, runs, fake):
    earlier = runs / REDO / ("a" * 16)
    failed = stale[0].below(earlier)
    frozen.write(failed)
    (failed.folder / "attempts" / "1").mkdir(parents=True)
    being_done = stale[1].below(earlier)
    frozen.write(being_done)
    lease = Lease.acquire(being_done.folder, 60.0)
    try:
        real, fake.script = fake.script, lambda run, pid: Exit.FAILED
        launch_anew(stale[:2])
        assert failed.folder.exists()
        fake.script = real
        launch_anew(stale[:2])
    finally:
        lease.release()
    assert not failed.folder.exists()
    assert being_done.folder.exists()
    assert [published(run).attempt for run in stale] == [2, 2, 1]
