"""Refresh: stale records are confirmed by one seed, or done again; old ones stand until then."""

from __future__ import annotations

import pytest

from again_support import published, rewrite, shifted
from engine_support import fake  # noqa: F401 - fake is a fixture
from retable.launch import again
from retable.launch.engine import launch
from retable.launch.lease import Lease
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.grid import plan


@pytest.fixture
def grid(fake):
    """A finished table: two settings, three seeds each."""
    grid = plan("digits/accuracy", "paper")
    launch(list(grid.runs()))
    fake.log.clear()
    return grid


def setting(grid, row):
    return grid.cell_runs(grid.cells[row, "accuracy"])


def marks(grid):
    table = build(grid, collect.from_runs(grid, pytest.fail))
    return {place[0]: cell.marks for place, cell in table.cells.items() if cell.n_planned}


def test_nothing_is_stale(grid, fake):
    done = again.refresh(list(grid.runs()), pytest.fail)
    assert done.text() == "nothing is stale"
    assert fake.log == []


def test_one_seed_that_is_bitwise_equal_confirms_its_setting_only(grid, fake, runs):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64)
    before = {run.key: published(run) for run in grid.runs()}
    assert "stale" in marks(grid)["slow"]
    said = []
    done = again.refresh(list(grid.runs()), said.append)
    assert [run.config.seed for run in fake.log] == [0]
    assert (done.settings, done.blessed, done.again) == (1, 3, 0)
    assert done.ok
    assert said == ["1 stale settings: one seed of each runs again"]
    for run in setting(grid, "slow"):
        new, old = published(run), before[run.key]
        assert new.fingerprint == run.fingerprint
        assert new.substance() == old.substance()
        assert new.provenance == old.provenance  # the numbers are still the old code's
        (trace,) = new.blessings
        assert (trace.was, trace.seed) == ("f" * 64, 0)
    assert all(published(r) == before[r.key] for r in setting(grid, "fast"))
    assert "stale" not in marks(grid)["slow"]
    assert not list((runs / "_refresh").iterdir())


def test_one_seed_that_differs_sends_the_whole_setting_again(grid, fake):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64, results=shifted(run, 1e-9))
    said = []
    done = again.refresh(list(grid.runs()), said.append)
    assert len(fake.log) == 3
    assert (done.blessed, done.again, done.same) == (0, 3, 0)
    assert "all 3 stale runs again" in said[-1]
    for run in setting(grid, "slow"):
        assert published(run).attempt == 2
        assert published(run).blessings == []
    assert "stale" not in marks(grid)["slow"]


def test_measured_times_are_never_confirmed_but_measured_again(grid, fake):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64, timing_metrics=["test/loss"])
    done = again.refresh(list(grid.runs()), lambda _: None)
    assert len(fake.log) == 3
    assert (done.blessed, done.again) == (0, 3)


def test_a_run_that_fails_now_keeps_its_stale_record(grid, fake, monkeypatch):
    from retable import run as runner

    olds = [rewrite(run, fingerprint="f" * 64) for run in setting(grid, "slow")]

    def broken(*_):
        raise RuntimeError("no more")

    monkeypatch.setattr(runner, "execute", broken)
    done = again.refresh(list(grid.runs()), lambda _: None)
    assert not done.ok
    assert len(done.failed) == 3
    assert "failed: RuntimeError: no more" in done.text()
    assert [published(run) for run in setting(grid, "slow")] == olds


def test_a_stopped_refresh_goes_on_where_it_was(grid, fake, monkeypatch):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64, results=shifted(run, 1e-9))
    original, calls = again.launch, []

    def stop_the_second(runs, **more):
        calls.append(len(runs))
        summary = original(runs[:2] if len(calls) == 2 else runs, **more)
        summary.stopped = len(calls) == 2
        return summary

    monkeypatch.setattr(again, "launch", stop_the_second)
    done = again.refresh(list(grid.runs()), lambda _: None)
    assert done.stopped
    assert done.again == 2
    fake.log.clear()
    assert again.refresh(list(grid.runs()), lambda _: None).ok
    assert [run.config.seed for run in fake.log] == [2]


def test_a_record_that_another_runner_holds_stays_stale(grid, fake):
    runs = setting(grid, "slow")
    for run in runs:
        rewrite(run, fingerprint="f" * 64)
    lease = Lease.acquire(runs[1].folder, 60)
    try:
        done = again.refresh(list(grid.runs()), lambda _: None)
    finally:
        lease.release()
    assert done.blessed == 2
    assert "another runner holds it" in done.text()
    assert published(runs[1]).fingerprint == "f" * 64


def test_a_second_change_of_code_leaves_a_second_trace(grid):
    (run, *_) = runs = setting(grid, "slow")
    for first in ("e", "f"):
        for run in runs:
            rewrite(run, fingerprint=first * 64)
        again.refresh(list(grid.runs()), lambda _: None)
    assert [b.was[0] for b in published(run).blessings] == ["e", "f"]
