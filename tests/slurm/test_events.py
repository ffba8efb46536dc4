"""What befalls jobs on a real cluster: they resume to the undisturbed result, or fail for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.slurm.submission import Submission, all_of
from retable.launch.worker import perform
from retable.runs import frozen, records
from retable.runs.records import Status
from support.job import LAUNCHED
from support.runs import checkpoints, record_of
from support.slurm import Cluster, until
from support.task import holder_of

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SETTING = ["experiment=digits/base", "seed=0", "data.train_size=600"]
SLURM = ["launcher=slurm", "cluster=dev", "launcher.lease_s=8", "launcher.grace_s=8"]


@dataclass
class Submitted:
    """What was submitted with one call: its runs, by seed, in one array."""

    cluster: Cluster
    runs: list[frozen.FrozenRun]
    submission: Submission

    @property
    def job(self):
        return self.submission.header.arrays[0].job

    def state(self, task=0):
        return self.cluster.state(f"{self.job}_{task}")

    def events(self, *names, task=0):
        told = self.submission.events(0, task)
        return [e for e in told if not names or e["event"] in names]

    def log(self, task=0):
        path = self.submission.folder / "log" / f"0-{task}.txt"
        return path.read_text() if path.exists() else "no log"

    def wait(self, seconds=120, task=0):
        """Until the task is over; the state in which SLURM has it."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "")
        try:
            until(lambda: self.state(task) in over, seconds, "the task is over")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.state(task)}: {self.log(task)}") from None
        return self.state(task)

    def restarts(self):
        return [e["restart"] for e in self.events("started")]


def assert_undisturbed(run, folder):
    """The record is that of a run that nothing happened to."""
    paths = run.config.paths.model_copy(update={"runs": str(folder / "undisturbed")})
    config = run.config.model_copy(update={"paths": paths})
    alone = frozen.FrozenRun(config, run.key, run.fingerprint)
    frozen.write(alone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: None)
        assert perform(alone.folder, LAUNCHED) == 0
    assert record_of(run).substance() == record_of(alone).substance()
    assert not (run.folder / "lease.json").exists()


@pytest.fixture
def submit(cluster, runs, tmp_path):
    """Submit runs as a user does."""

    def call(*overrides, fail="no"):
        options = [*SETTING, *overrides, *SLURM]
        done = subprocess.run(
            [sys.executable, "-m", "retable", "train", "-m", *options, f"model.fail={fail}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with hydra_ready():
            made = [
                frozen.freeze(compose([*options, f"model.fail={how}"])) for how in fail.split(",")
            ]
        return Submitted(cluster, made, next(all_of(runs)))

    return call


def on(node):
    return f"cluster.options.nodelist={node}"


def test_a_fault_fails_the_job_and_not_its_siblings_and_a_job_started_again_exits_at_once(
    submit, cluster, tmp_path
):
    one = submit("trainer.max_epochs=2", "launcher.runs_per_job=2", fail="raise,no")
    bad, good = one.runs
    assert one.wait() == "FAILED"
    assert one.cluster.accounted(one.job) == ["FAILED"]
    assert record_of(bad, 1).status is Status.FAILED
    ended = {e["status"]: e["error"] for e in one.events("ended")}
    assert ended.keys() == {"failed", "done"}
    assert "asked to <b>fail</b>" in ended["failed"]
    assert_undisturbed(good, tmp_path)
    assert one.restarts() == [0], "nobody acts"
    # As SLURM does with a job that ends while it is preempted.
    cluster.slurm("scontrol", "requeue", f"{one.job}_0")
    until(lambda: len(one.events("left")) == 2, 60, "it has left again")
    assert one.wait() == "FAILED"
    assert [len(records.attempts(run.folder)) for run in one.runs] == [1, 1]
    started, left = one.events("started", "left")[-2:]
    assert left["time"] - started["time"] < 1.5


def test_a_preempted_job_resumes_and_when_started_once_more_exits_at_once(
    submit, cluster, tmp_path
):
    one = submit("model.sleep=1", "trainer.max_epochs=9", "data.num_workers=2", on("n1"))
    (run,) = one.runs
    until(lambda: checkpoints(run), 120, "an epoch is done")
    cluster.submit("sleep 2", "-p", "high", "--nodelist=n1", "--ntasks=2", "--nodes=1")
    until(lambda: one.events("left"), 60, "it has left")
    first, *others, last = [e["event"] for e in one.events()]
    # The run is told by the same signal, and may be at an epoch's end just then.
    assert (first, sorted(others), last) == ("started", ["ended", "stopping"], "left")
    assert one.events("stopping")[0]["why"] == "terminated"
    assert record_of(run, 1).status is Status.INTERRUPTED
    until(lambda: record_of(run), 120, "it is done")
    assert record_of(run).resumed_from_epoch >= 1
    assert_undisturbed(run, tmp_path)
    until(lambda: one.state() in ("COMPLETED", ""), 60, "the job has ended")
    assert len(records.attempts(run.folder)) == 2
    assert one.events()[-1]["code"] == 0
    assert not one.events("requeued"), "SLURM does that"
    assert one.restarts() == list(range(len(one.restarts())))


def test_a_run_on_a_node_that_fails_goes_on_elsewhere(submit, cluster, tmp_path):
    one = submit("model.sleep=1", "trainer.max_epochs=9", "cluster.options.exclude=n3")
    (run,) = one.runs
    until(lambda: checkpoints(run), 120, "an epoch is done")
    node = one.events("started")[0]["node"]
    cluster.script("node", "kill", node)
    try:
        until(lambda: len(one.events("started")) == 2, 120, "it is started elsewhere")
        assert one.events("started")[1]["node"] != node
        assert one.wait() == "COMPLETED"
    finally:
        cluster.script("node", "start", node)
    assert record_of(run).resumed_from_epoch >= 1
    assert record_of(run, 1) is None
    assert_undisturbed(run, tmp_path)


def test_a_killed_process_is_started_again_and_the_second_time_the_run_has_failed(submit, tmp_path):
    one = submit("model.sleep=1", "trainer.max_epochs=6", on("n3"))
    two = submit("model.sleep=1", "trainer.max_epochs=7", on("n3"))
    (once,), (twice,) = one.runs, two.runs
    for run in (once, twice):
        until(lambda run=run: checkpoints(run), 120, "an epoch is done")
        os.kill(holder_of(run)["pid"], signal.SIGKILL)
    until(lambda: checkpoints(twice, 2), 120, "it goes on")
    os.kill(holder_of(twice)["pid"], signal.SIGKILL)
    assert two.wait() == "FAILED"
    assert one.wait() == "COMPLETED"
    assert_undisturbed(once, tmp_path)
    record = record_of(twice, 2)
    assert record.status is Status.FAILED
    assert record.error.startswith("killed by SIGKILL (out of memory")
    assert len(two.events("killed")) == 2
    assert one.restarts() == two.restarts() == [0]


def test_nobody_acts_on_a_cancel_and_the_next_submission_goes_on(submit, cluster, tmp_path):
    setting = ("model.sleep=1", "trainer.max_epochs=4", "data.num_workers=2", on("n2"))
    one = submit(*setting)
    (run,) = one.runs
    until(lambda: checkpoints(run), 120, "an epoch is done")
    cluster.slurm("scancel", f"{one.job}_0")
    assert one.wait() == "CANCELLED"
    assert record_of(run, 1).status is Status.INTERRUPTED
    assert one.restarts() == [0]
    again = submit(*setting)
    assert again.submission.folder != one.submission.folder
    assert again.wait() == "COMPLETED"
    assert record_of(run).resumed_from_epoch >= 1
    assert_undisturbed(run, tmp_path)


def test_a_job_that_starts_while_the_controller_is_killed_begins_its_step_again(
    submit, cluster, tmp_path
):
    begun, go = tmp_path / "begun", tmp_path / "go"
    waits = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.1; done"
    one = submit("trainer.max_epochs=2", f"cluster.setup=['{waits}']")
    (run,) = one.runs
    until(begun.exists, 60, "the job has begun")
    cluster.until_saved(one.job)
    controller = cluster.pid("slurmctld")
    os.kill(controller, signal.SIGSTOP)
    go.touch()
    until(lambda: " srun " in f" {' '.join(cluster.processes().values())}", 30, "srun asks")
    time.sleep(1)
    os.kill(controller, signal.SIGKILL)
    try:
        until(lambda: "srun had no answer" in one.log(), 60, "srun has given up")
    finally:
        cluster.script("up")
    assert one.wait() == "COMPLETED"
    assert one.restarts() == [0]
    assert_undisturbed(run, tmp_path)


def test_before_the_time_limit_a_run_ends_its_epoch_and_the_job_goes_on_in_the_next(
    submit, cluster, tmp_path
):
    one = submit(
        "model.sleep=2.5",
        "trainer.max_epochs=36",  # together longer than until it is told in a limit of two minutes
        "data.num_workers=2",
        "cluster.minutes=10",
        "cluster.signal_s=20",
    )
    (run,) = one.runs

    def limit(minutes):
        cluster.slurm("scontrol", "update", f"JobId={one.job}_0", f"TimeLimit={minutes}")

    until(lambda: checkpoints(run), 120, "an epoch is done")
    # Not sooner: how long a start takes depends on the machine, and SLURM, which looks at its jobs
    # every 30 s, may tell one of a single minute after 10 s.
    elapsed = time.time() - one.events("started")[0]["time"]
    limit(1 + int(elapsed + 45) // 60)
    until(lambda: one.events("requeued"), 180, "the job requeues itself")
    # How many epochs go into a minute depends on the machine: there is no limit to what is left.
    limit(30)
    assert one.wait(300) == "COMPLETED"
    assert {e["why"] for e in one.events("stopping")} == {"time limit"}
    assert len(one.events("requeued")) == len(one.events("started")) - 1
    assert one.restarts() == list(range(len(one.restarts())))
    attempts = len(records.attempts(run.folder))
    assert attempts > 1
    for number in range(1, attempts):
        record = record_of(run, number)
        assert record.status is Status.TIMEOUT
        assert record.error.endswith(", before the time limit")
    assert record_of(run).resumed_from_epoch >= 1
    assert_undisturbed(run, tmp_path)
