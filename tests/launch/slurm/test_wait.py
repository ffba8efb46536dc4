"""`--wait`: the summary is a local launch's, whatever has become of the jobs."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from retable.launch.dispatch import launch
from retable.launch.slurm import wait
from retable.launch.slurm.submission import all_of
from retable.launch.slurm.submit import Orders
from retable.launch.worker import perform
from retable.report.listing import summary_text
from retable.runs import records
from retable.runs.lease import Lease
from support.job import LAUNCHED
from support.runs import freeze
from support.submit import said  # noqa: F401 - a fixture

ON = ("launcher=slurm", "cluster=dev", "progress=false")


@pytest.fixture
def world(monkeypatch):
    """What happens between one look at the queue and the next, in turn."""
    happens = []

    def sleep(_):
        assert happens, "waits for what will never happen"
        happens.pop(0)()

    monkeypatch.setattr(wait, "sleep", sleep)
    return happens


@pytest.fixture
def waiting(said):
    return Orders(label="test", wait=True, say=said.append)


def does(*runs):
    return lambda: [perform(run.folder, LAUNCHED) for run in runs]


def some(n, *overrides):
    first = freeze(*ON, *overrides)
    return [first.with_seed(seed) for seed in range(n)]


def test_runs_that_their_jobs_do_are_done(fake_slurm, world, waiting):
    a, b = some(2)
    world += [
        lambda: fake_slurm.set("101", state="RUNNING"),
        does(a),
        does(b),
    ]
    summary = launch([a, b], orders=waiting)
    assert (summary.done, summary.queued, summary.ok, summary.pending) == (2, 0, True, False)
    assert summary_text(summary) == "2 run, 0 already done"


def test_each_ending_is_told_as_a_local_launch_does(fake_slurm, world, waiting, capsys, runs):
    good, raises, diverges = (
        freeze(*ON),
        freeze(*ON, "model.fail=raise"),
        freeze(*ON, "model.fail=diverge"),
    )
    world += [does(good, raises, diverges), lambda: fake_slurm.forget("101")]
    summary = launch([good, raises, diverges], orders=waiting)
    assert (summary.done, summary.diverged, len(summary.failed)) == (1, 1, 1)
    assert not summary.ok
    [(failed, reason)] = summary.failed
    assert failed == raises
    assert "asked to <b>fail</b>" in reason
    text = capsys.readouterr().err
    assert f"failed: {raises.label}: " in text
    assert f"diverged: {diverges.label}: " in text


def test_a_failure_of_before_is_not_told_of_a_job_that_came_to_nothing(
    fake_slurm, world, waiting, runs
):
    run = freeze(*ON, "model.fail=raise")
    launch([run], orders=replace(waiting, wait=False))
    perform(run.folder, LAUNCHED)
    fake_slurm.forget("101")
    world += [lambda: fake_slurm.forget("102")]
    [(_, reason)] = launch([run], orders=waiting).failed
    submission = next(all_of(runs))
    assert reason == f"its job left no record ({submission.folder}/log/0-0.txt)"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("refused", "the code changed since launch"),
        ("gave up", "the code changed since launch"),
        (None, "cancelled"),
    ],
)
def test_what_a_job_says_of_a_run_it_did_not_do(fake_slurm, world, waiting, runs, event, reason):
    [run] = some(1)

    def ends():
        submission = next(all_of(runs))
        if event:
            submission.say(0, 0, event, run=f"digits/{run.key}", error=reason)
        else:
            submission.cancel([(0, 0)])
        fake_slurm.forget("101")

    world += [ends]
    assert launch([run], orders=waiting).failed == [(run, reason)]


def test_runs_of_others_are_waited_for_too(fake_slurm, world, waiting):
    queued, held, own = some(3)
    launch([queued], orders=replace(waiting, wait=False))
    held.folder.mkdir(parents=True)
    from retable.runs import frozen

    frozen.write(held)
    lease = Lease.acquire(held.folder, 60)
    world += [
        does(queued, own),
        lambda: None,
        lambda: (lease.release(), perform(held.folder, LAUNCHED)),
    ]
    summary = launch([queued, held, own], orders=waiting)
    assert (summary.done, summary.elsewhere, summary.already) == (1, 2, 0)
    assert world == []


def test_a_controller_that_is_away_for_a_while_is_waited_for(fake_slurm, world, waiting, capsys):
    [run] = some(1)
    dead = "slurm_load_jobs error: Unable to contact slurm controller\n"
    world += [
        lambda: fake_slurm.answer("squeue", error=dead, code=1),
        lambda: None,
        lambda: (fake_slurm.usual("squeue"), perform(run.folder, LAUNCHED)),
    ]
    assert launch([run], orders=waiting).done == 1
    assert capsys.readouterr().err.count("slurmctld does not answer") == 1


def test_ctrl_c_leaves_the_jobs_alone_and_says_so(fake_slurm, world, waiting, capsys):
    [run] = some(1)
    world += [lambda: signal.raise_signal(signal.SIGINT)]
    summary = launch([run], orders=waiting)
    assert (summary.stopped, summary.pending) == (True, True)
    assert list(fake_slurm.jobs) == ["101"]
    assert "no longer waiting; the jobs go on" in capsys.readouterr().err
    assert "goes on from here" not in summary_text(summary)


def test_a_record_that_came_just_before_the_queue_was_asked_counts(
    fake_slurm, world, waiting, monkeypatch
):
    [run] = some(1)
    queue_of, looked = wait.queue_of, []

    def late(folder):
        found = queue_of(folder)
        if not looked:
            perform(run.folder, LAUNCHED)
        looked.append(found)
        return found

    monkeypatch.setattr(wait, "queue_of", late)
    assert launch([run], orders=waiting).done == 1
    assert len(looked) == 1
    assert records.read(run.folder / "record.json") is not None
