"""The pool: what a launch on this machine and the supervisor of a job have in common."""

from __future__ import annotations

import pytest

from retable.launch import pool
from retable.launch.dispatch import launch
from retable.launch.forkserver_client import Ended
from retable.launch.worker import Exit, perform
from retable.runs import frozen
from retable.runs.lease import Lease
from support.engine import (
    Bench,
)
from support.job import LAUNCHED
from support.runs import freeze


@pytest.fixture(params=["here", "in a job"])
def keep_going(request, runs, monkeypatch):
    """Do runs; returns how many were done, and how many of them elsewhere."""
    monkeypatch.setattr(pool, "_WAIT_FOR_OTHERS_S", 0.0)

    def here(*some):
        summary = launch(some)
        assert summary.ok
        return summary.done + summary.elsewhere, summary.elsewhere

    def in_a_job(*some):
        for run in some:
            frozen.write(run)
        bench = Bench(runs, *some, at_once=some[0].config.launcher.workers or 1).go()
        assert (bench.supervisor.ok, bench.supervisor.left) == (True, {})
        return len(bench.events), sum(about.get("elsewhere", False) for _, about in bench.events)

    return here if request.param == "here" else in_a_job


def at_look(monkeypatch, number, happens):
    """Let something happen before the so many-th look at whether a run is held; all looks."""
    looked, real = [], pool.is_held

    def is_held(folder, lease_s):
        looked.append(folder)
        if len(looked) == number:
            happens()
        return real(folder, lease_s)

    monkeypatch.setattr(pool, "is_held", is_held)
    return looked


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_bound_what_goes_on_at_once(fake, keep_going, workers):
    run = freeze(f"launcher.workers={workers}")
    assert keep_going(*map(run.with_seed, range(5))) == (5, 0)
    assert fake.most == workers


def test_what_another_runner_does_is_waited_for_and_done(fake, keep_going, monkeypatch):
    run, other = freeze(), freeze(seed=1)
    frozen.write(run)
    held = Lease.acquire(run.folder, 60)
    looked = at_look(monkeypatch, 3, lambda: (held.release(), perform(run.folder, LAUNCHED)))
    assert keep_going(run, other) == (2, 1)
    assert len(looked) == 3
    assert fake.log == [run, other], "started again and again while it was held"


def test_what_another_runner_leaves_undone_is_taken_over(fake, keep_going, monkeypatch):
    run = freeze()
    frozen.write(run)
    held = Lease.acquire(run.folder, 60)
    looked = at_look(monkeypatch, 2, held.release)
    assert keep_going(run) == (1, 0)
    assert len(looked) == 2
    assert fake.log == [run, run]


def test_what_another_runner_has_taken_over_is_waited_for(fake, keep_going, monkeypatch):
    run = freeze()

    def loses_it(run, pid):
        held.append(Lease.acquire(run.folder, 60))
        return Ended(run, pid, Exit.INTERRUPTED, elsewhere=True)

    held, fake.script = [], loses_it
    at_look(monkeypatch, 2, lambda: (held.pop().release(), perform(run.folder, LAUNCHED)))
    assert keep_going(run) == (1, 1)
    assert fake.log == [run]
