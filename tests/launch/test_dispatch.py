"""A launch: what is started, what is not, and what is said about how it ended."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from retable.papers.digits.data import Digits

from retable.data.fetch import DataUnavailable
from retable.launch.checks import workers_of
from retable.launch.dispatch import launch
from retable.launch.summary import Summary
from retable.launch.worker import Exit, new_attempt, perform
from retable.runs import frozen, provenance, records
from retable.runs.attempts import Launched
from retable.runs.lease import Lease
from retable.runs.records import Status
from retable.tracking import ledger
from retable.util.errors import UserError
from support.engine import (
    dies,
)
from support.runs import freeze, newest


def test_done_is_skipped_and_not_touched(fake):
    run, other = freeze(), freeze(seed=1)
    assert launch([run]) == Summary(done=1)
    changed = (run.folder / "record.json").stat().st_mtime_ns
    frozen_at = (run.folder / "config.yaml").stat().st_mtime_ns
    assert launch([run, other]) == Summary(done=1, skipped=1)
    assert launch([run, other]) == Summary(skipped=2)
    assert len(fake.log) == 2
    assert (run.folder / "record.json").stat().st_mtime_ns == changed
    assert (run.folder / "config.yaml").stat().st_mtime_ns == frozen_at


def test_the_same_run_twice_is_done_once(fake):
    assert launch([freeze(), freeze(), freeze().with_seed(0)]) == Summary(done=1)
    assert len(fake.log) == 1
    assert launch([]) == Summary()


def test_diverged_is_skipped_unless_forced(fake):
    run = freeze("model.fail=diverge")
    first = launch([run])
    assert (first.diverged, first.ok) == (1, False)
    assert launch([run]) == Summary(skipped=1)
    assert launch([run], retry_diverged=True).diverged == 1
    assert newest(run).attempt == 2


def test_failed_starts_again_and_stops_no_other(fake, capsys):
    runs = [freeze("model.fail=raise"), freeze(), freeze("model.fail=diverge"), freeze(seed=1)]
    for number in (1, 2):
        summary = launch(runs)
        [(failed, message)] = summary.failed
        assert failed is runs[0]
        assert message == (
            f"RuntimeError: asked to <b>fail</b> ({runs[0].folder}/attempts/{number})"
        )
        assert not summary.ok
        assert message in capsys.readouterr().err
    assert (summary.done, summary.skipped) == (0, 3)


def test_what_many_runs_fail_of_is_said_once(fake, capsys):
    runs = [freeze("model.fail=raise"), freeze("model.fail=raise", seed=1), freeze("model.fail=no")]
    assert len(launch(runs).failed) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("failed: ")]
    first, other = (run.label for run in runs[:2])
    folder = f"{runs[0].folder}/attempts/1"
    assert lines == [
        f"failed: {first}: RuntimeError: asked to <b>fail</b> ({folder})",
        f"failed: {other}: as {first}",
    ]


def test_what_reads_data_that_cannot_be_had_is_started_once(fake, monkeypatch, capsys):
    def away(self):
        if self.train_size == 90:
            raise DataUnavailable("x.csv: neither in a mirror nor to be fetched")

    monkeypatch.setattr(Digits, "prepare_data", away)
    lacking = freeze("data.train_size=90", "launcher.workers=1")
    runs = [lacking, lacking.with_seed(1), freeze("launcher.workers=1"), lacking.with_seed(2)]
    summary = launch(runs)
    assert (summary.done, [run for run, _ in summary.failed]) == (1, [runs[0], runs[1], runs[3]])
    assert [run.folder.exists() for run in runs] == [True, False, True, False]
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("failed: ")]
    assert "DataUnavailable: x.csv" in said[0]
    assert [line.rpartition(": ")[2] for line in said[1:]] == [f"as {lacking.label}"] * 2


def test_how_many_runs_go_on_at_once(fake):
    run = freeze("launcher.workers=2")
    launch([run, run.with_seed(1), run.with_seed(2)])
    assert newest(run).workers == 2
    assert workers_of(freeze("device.threads=1000")) == 1
    assert workers_of(freeze()) == len(os.sched_getaffinity(0))


def test_a_process_that_dies_leaves_a_failed_record(fake):
    run, other = freeze(), freeze(seed=1)
    fake.script = lambda r, pid: (dies(r, pid), -9 if r is run else 9)[1]
    summary = launch([run, other])
    assert [message for _, message in summary.failed] == [
        f"killed by SIGKILL (out of memory, or killed by someone) ({run.folder}/attempts/1)",
        f"its process ended with exit code 9 and left no result ({other.folder}/attempts/1)",
    ]
    record = newest(run)
    assert (record.status, record.attempt) == (Status.FAILED, 1)
    assert record.error.startswith("killed by SIGKILL")
    assert (record.key, record.fingerprint) == (run.key, run.fingerprint)
    fake.script = None
    assert launch([run, other]).done == 2
    assert newest(run).attempt == 2


def test_a_killed_run_on_two_devices_is_recorded_with_both(fake):
    run = freeze("device.devices=2", "device.threads=2")
    fake.script = lambda r, pid: (dies(r, pid), -9)[1]
    launch([run])
    assert (newest(run).status, newest(run).devices, newest(run).threads) == (Status.FAILED, 2, 2)


@pytest.mark.parametrize("code", list(Exit))
def test_an_exit_code_without_what_belongs_to_it_is_a_failure(fake, code):
    """A library that calls ``_exit`` may use any of our codes."""
    run = freeze()
    fake.script = lambda r, pid: (dies(r, pid), code)[1]
    summary = launch([run])
    [(_, message)] = summary.failed
    assert f"exit code {int(code)} and left no result" in message
    assert newest(run).status is Status.FAILED


def test_an_older_failure_is_not_taken_for_this_one(fake):
    run = freeze("model.fail=raise")
    launch([run])
    fake.script = lambda r, pid: (dies(r, pid, attempt=False), -11)[1]
    [(_, message)] = launch([run]).failed
    assert message == "killed by SIGSEGV"
    assert newest(run).error == "RuntimeError: asked to <b>fail</b>"


def test_the_death_of_one_runner_is_not_written_into_anothers_attempt(fake):
    run = freeze()

    def script(r, pid):
        # Killed; before we look, another launch has taken the run.
        new_attempt(r.folder)
        script.held = Lease.acquire(r.folder, 60)
        new_attempt(r.folder)
        return -9

    fake.script = script
    [(_, message)] = launch([run]).failed
    script.held.release()
    assert message.startswith("killed by SIGKILL")
    assert not list(run.folder.glob("attempts/*/record.json"))


def test_refused_runs_are_counted_as_failed(fake):
    run = freeze()
    fake.script = lambda *_: Exit.REFUSED
    [(_, message)] = launch([run]).failed
    assert message == "refused to start; the reason is above"


def test_what_cannot_be_launched_together_is_refused_before_anything_is_written(fake, runs):
    pairs = [
        ("launcher", freeze(), freeze("launcher.workers=1", seed=1)),
        ("paths", freeze(), freeze("paths.cache=/elsewhere", seed=1)),
    ]
    for section, one, two in pairs:
        with pytest.raises(UserError, match=f"{section}: differs between runs of one launch"):
            launch([one, two])
    assert not runs.exists()
    assert not fake.log


@pytest.mark.parametrize("below", [False, True])
def test_a_folder_of_runs_that_cannot_be_written_is_refused(fake, runs, below):
    runs.write_text("a file")
    place = runs / "below" if below else runs
    with pytest.raises(UserError, match=r"paths.runs: .*runs.* cannot be written to"):
        launch([freeze(f"paths.runs={place}")])


def test_a_run_whose_folder_cannot_be_written_stops_no_other(fake):
    run, other = freeze(), freeze(seed=1)
    run.folder.parent.mkdir(parents=True)
    run.folder.write_text("in the way")
    summary = launch([run, other])
    assert summary.done == 1
    [(failed, message)] = summary.failed
    assert failed is run
    assert "cannot be written (" in message


def test_a_broken_record_is_named_and_done_again(fake, capsys):
    run = freeze()
    launch([run])
    # In place: the attempt's record is the same file.
    (run.folder / "record.json").write_text("{")
    assert launch([run]) == Summary(done=1)
    assert f"warning: {run.folder}/record.json: broken record" in capsys.readouterr().err
    assert newest(run).attempt == 2


@pytest.mark.slow
def test_runs_that_w_and_b_lacks_something_of_are_counted_at_the_end(fake, capsys):
    """As after a follower or W&B's service was killed, or the disk was full."""

    def lose(run, pid):
        code = perform(run.folder, Launched(provenance.collect(runs[0].folder)))
        attempt = records.attempts(run.folder)[0]
        if run in incomplete:
            replace(ledger.read(attempt), finished=False).write(attempt)
        elif run in untold:
            (attempt / ledger.FILE).unlink()
        return code

    wandb = ["logger=wandb", "logger.mode=offline"]
    runs = [freeze(*wandb, seed=seed) for seed in range(3)]
    incomplete, untold, fake.script = runs[:1], [], lose
    assert launch([*runs[:2], freeze(seed=9)]).done == 3  # the last one is not followed
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "W&B: 1 run is incomplete there; 'retable wandb sync' completes it"
    )
    incomplete, untold = [], runs[2:]
    launch(runs)
    err = capsys.readouterr().err
    assert "incomplete" not in err
    assert "W&B: 1 run is not there, and cannot be synced; wandb.log of its attempt says why" in err


def test_summaries_of_batches_add_up():
    run = freeze()
    total = Summary.of(
        [Summary(done=1, failed=[(run, "a")]), Summary(done=2, skipped=3, stopped=True)]
    )
    assert total == Summary(done=3, skipped=3, failed=[(run, "a")], stopped=True)
    assert Summary.of([]) == Summary()
    assert Summary.of([]).ok


def test_the_frozen_run_is_what_is_asked_for_now(fake):
    """An unkeyed change reaches a run that had been frozen before."""
    first = freeze()
    frozen.write(first)
    second = freeze("launcher.lease_s=33.0")
    assert launch([second]) == Summary(done=1)
    assert frozen.read(first.folder).config.launcher.lease_s == 33.0
