"""What befalls a task as a process of its own: signals, faults, other runners, stale records."""

from __future__ import annotations

import os
import shutil
import signal
import time

import msgspec
import pytest
from msgspec import structs

from retable.launch.slurm.submission import Entry
from retable.runs import frozen, records, snapshot
from retable.runs.lease import Lease
from retable.runs.provenance import surroundings
from retable.runs.records import Status
from support.job import LAUNCHED
from support.runs import checkpoints, record_of, wait_for
from support.task import (
    SLOW,
    finish,
    freeze,
    holder_of,
    name_of,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("alone", [False, True])
def test_terminated_runs_leave_and_nobody_requeues(job, undisturbed, alone):
    """SLURM does that where the job was preempted, and nobody where it was cancelled."""
    run, later = freeze(SLOW, "data.num_workers=2"), freeze(seed=1)
    one = job([run, later])
    process = one.start()
    wait_for(lambda: checkpoints(run))
    if alone:
        process.send_signal(signal.SIGTERM)
    else:
        one.signal(signal.SIGCONT)
        one.signal(signal.SIGTERM)
    one.wait(143)
    record = record_of(run, 1)
    assert record.status is Status.INTERRUPTED
    assert record.error.startswith("stopped after epoch")
    assert one.requeued() == []
    assert not records.attempts(later.folder), "nothing is begun any more"
    assert not one.processes()
    one.run()
    assert record_of(run).resumed_from_epoch >= 1
    for each in (run, later):
        assert record_of(each).substance() == undisturbed(each)


def test_an_epoch_that_takes_too_long_is_dropped_before_the_limit(job, undisturbed):
    run = freeze("model.sleep=4", "trainer.max_epochs=2", "data.num_workers=2")
    one = job([run], signal_s=2)
    one.start()
    wait_for(lambda: checkpoints(run))
    begin = time.monotonic()
    one.signal(signal.SIGUSR2)
    one.wait()
    assert time.monotonic() - begin < 8
    record = record_of(run, 1)
    assert record.status is Status.TIMEOUT
    assert record.error == "stopped before the time limit within an epoch"
    assert one.requeued() == ["requeue 70_0"]
    assert not (run.folder / "lease.json").exists()
    assert not one.processes()
    one.run()
    assert record_of(run).resumed_from_epoch == 1
    assert record_of(run).substance() == undisturbed(run)


def test_terminated_runs_are_killed_when_the_grace_time_is_over(job):
    run = freeze("model.sleep=30", "launcher.grace_s=1")
    one = job([run])
    one.start()
    wait_for(lambda: (run.folder / "lease.json").exists())
    one.signal(signal.SIGTERM)
    one.wait(143, seconds=15)
    assert record_of(run, 1).status is Status.INTERRUPTED
    assert record_of(run, 1).error == "terminated within an epoch"
    assert not one.processes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR2, 0)])
def test_a_job_that_is_told_while_it_starts_leaves_before_it_begins(job, number, code):
    run = freeze()
    one = job([run])
    process = one.start()
    wait_for(lambda: len(one.processes()) > 1)  # the server, which imports torch for seconds
    begin = time.monotonic()
    one.signal(number)
    one.wait(code)
    assert time.monotonic() - begin < 3
    assert process.returncode == code
    assert [e["event"] for e in one.events()][:2] == ["started", "stopping"]
    assert one.requeued() == (["requeue 70_0"] if number == signal.SIGUSR2 else [])
    assert not records.attempts(run.folder)
    wait_for(lambda: not one.processes(), 10)


def test_a_run_killed_twice_has_failed_though_the_job_was_restarted_between(job, undisturbed):
    run, sibling = freeze(SLOW), freeze(seed=1)
    one = job([run, sibling])
    one.start()
    wait_for(lambda: checkpoints(run))
    os.kill(holder_of(run)["pid"], signal.SIGKILL)
    wait_for(lambda: checkpoints(run, 2))
    assert record_of(run, 1).error.startswith("killed by SIGKILL (out of memory")
    one.signal(signal.SIGTERM)
    one.wait(143)
    one.start()
    wait_for(lambda: checkpoints(run, 3))
    os.kill(holder_of(run)["pid"], signal.SIGKILL)
    one.wait(1)
    assert record_of(run, 3).status is Status.FAILED
    assert len(one.events("killed")) == 2
    assert record_of(sibling).substance() == undisturbed(sibling)
    assert one.requeued() == []
    one.run(1)  # preempted while it ended, a job is started once more
    assert len(records.attempts(run.folder)) == 3


def test_faults_of_a_run_are_its_own(job, undisturbed):
    failing, diverging = freeze("model.fail=raise"), freeze("model.fail=diverge")
    changed, good = freeze(seed=1), freeze(seed=2)
    path = changed.folder / "config.yaml"
    path.write_text(path.read_text().replace(changed.fingerprint, "f" * 64))
    one = job([failing, diverging, changed, good])
    out = one.run(1)
    assert one.requeued() == []
    assert record_of(failing, 1).status is Status.FAILED
    assert (failing.folder / "attempts" / "1" / "traceback.txt").exists()
    assert record_of(diverging, 1).status is Status.DIVERGED
    (refused,) = one.events("refused")
    assert "the code changed since launch" in refused["error"]
    assert not records.attempts(changed.folder)
    assert record_of(good).substance() == undisturbed(good)
    assert "ended" in out
    assert {e["status"] for e in one.events("ended")} == {"failed", "diverged", "done"}


def test_a_run_that_another_runner_holds_is_waited_for(job):
    run = freeze()
    lease = Lease.acquire(run.folder, 60)
    one = job([run])
    one.start()
    time.sleep(8)
    assert one.started[0].poll() is None
    lease.release()
    one.wait()
    assert record_of(run).status is Status.DONE


def test_a_stale_run_is_done_at_a_side_and_takes_its_place(job, runs):
    run = freeze("trainer.max_epochs=1")
    stale = frozen.FrozenRun(run.config, run.key, run.fingerprint)
    finish(stale)
    record = record_of(run)
    old = structs.replace(record, fingerprint="0" * 64)
    attempt = run.folder / "attempts" / "1"
    records.replace_published(records.write_attempt(attempt, old), run.folder)
    side = freeze("trainer.max_epochs=1", f"paths.runs={runs / '_refresh' / 'x'}")
    one = job([Entry(folder=name_of(runs, side), home=name_of(runs, run))])
    one.run()
    assert (record_of(run).attempt, record_of(run).fingerprint) == (2, run.fingerprint)
    assert record_of(run).substance() == record.substance()
    (ended,) = one.events("ended")
    assert ended["run"] == name_of(runs, side)
    store = runs / "_store"
    assert (store / f"{record_of(run).provenance.packages}.txt").exists()
    one.run()
    assert len(records.attempts(run.folder)) == 2


def test_runs_of_a_snapshot_are_done_with_its_code_and_the_submission_s_provenance(
    job, runs, tmp_path
):
    run = freeze()
    copy = snapshot.make(runs, run.targets)
    module = copy / snapshot.EXTRA / "papers" / "digits" / "module.py"
    module.write_text(module.read_text() + "\nprint('from the copy')\n")
    one = job([run], source=str(copy))
    known = msgspec.json.encode(LAUNCHED.provenance).decode()
    (one.submission.folder / "provenance.json").write_text(known)
    one.run(1)
    assert "the code changed" in one.events("refused")[0]["error"]
    shutil.rmtree(copy)
    assert str(snapshot.make(runs, run.targets)) == str(copy)
    one.run()
    provenance = record_of(run).provenance
    assert provenance.commit == LAUNCHED.provenance.commit
    assert provenance.cpu != "c", "the hardware is the node's"
    here = surroundings(runs)
    of_job = (provenance.packages, provenance.python, provenance.torch)
    assert of_job == (here.packages, here.python, here.torch), "they may have changed in the queue"


def test_a_job_whose_own_process_is_killed_leaves_no_process(job):
    run = freeze(SLOW, "trainer.max_epochs=50", "data.num_workers=2")
    one = job([run])
    process = one.start()
    wait_for(lambda: checkpoints(run))
    process.kill()
    wait_for(lambda: not one.processes(), 15)
    assert record_of(run, 1).status is Status.INTERRUPTED
