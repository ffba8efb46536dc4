"""A run split over two nodes of a real cluster: its numbers, and its end on both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.slurm.submission import Submission, all_of
from retable.runs import frozen
from retable.runs.records import Status
from support.ranks import NUMBERS
from support.runs import checkpoints, record_of
from support.slurm import Cluster, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SETTING = ["experiment=digits/base", "seed=0", "data.train_size=600", "data.batch_size=77"]
TWO = ["device.devices=2", "cluster.options.nodes=2-2", "launcher.lease_s=8", "launcher.grace_s=8"]
LAUNCHER = ["launcher=slurm", "cluster=dev"]


@dataclass
class Submitted:
    """A run and the job that does it."""

    cluster: Cluster
    run: frozen.FrozenRun
    submission: Submission

    @property
    def job(self):
        return f"{self.submission.header.arrays[0].job}_0"

    def events(self, *names):
        told = self.submission.events(0, 0)
        return [e for e in told if not names or e["event"] in names]

    def logs(self):
        paths = [self.submission.folder / "log" / "0-0.txt", *self.run.folder.rglob("log*.txt")]
        return [path.read_text() for path in paths if path.exists()]

    def wait(self, seconds=60):
        """The state in which SLURM has the job when it is over."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "")
        try:
            until(lambda: self.cluster.state(self.job) in over, seconds, "the job is over")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.logs()}") from None
        return self.cluster.state(self.job)


@pytest.fixture
def submit(cluster, runs, tmp_path):
    """Submit a run as a user does."""

    def call(*overrides):
        options = [*SETTING, *overrides, *LAUNCHER, *TWO]
        done = subprocess.run(
            [sys.executable, "-m", "retable", "train", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with hydra_ready():
            run = frozen.freeze(compose(options))
        return Submitted(cluster, run, next(all_of(runs)))

    return call


def alone(run, folder, devices):
    """The record of the same run here, in so many processes and undisturbed."""
    paths = run.config.paths.model_copy(update={"runs": str(folder / f"of {devices}")})
    device = run.config.device.model_copy(update={"devices": devices})
    config = run.config.model_copy(update={"paths": paths, "device": device})
    same = frozen.FrozenRun(config, run.key, run.fingerprint)
    frozen.write(same)
    subprocess.run([sys.executable, "-m", "retable.launch.worker", same.folder], check=True)
    return same, record_of(same)


def numbers(run, record):
    path = run.folder / "attempts" / str(record.attempt) / "history.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = {(row["epoch"], name): value for row in rows for name, value in row.items()}
    return found | {(r.metric, r.step): r.value for r in record.results}


def processes_of(path: Path):
    """Those that write to a log."""
    found = []
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        with suppress(OSError):
            if output.readlink() == path:
                found.append(int(output.parts[2]))
    return found


def test_the_numbers_are_those_of_one_process(submit, cluster, tmp_path):
    one = submit("model.dropout=0.0", "model.norm=false")
    assert one.wait() == "COMPLETED", one.logs()
    record = record_of(one.run)
    assert (record.devices, record.attempt) == (2, 1)
    until(
        lambda: cluster.slurm("sacct", "-nXP", "--format=NNodes", f"--jobs={one.job}") == "2",
        20,
        "it is accounted for on two nodes",
    )
    single, expected = alone(one.run, tmp_path, 1)
    found = numbers(one.run, record)
    assert found == pytest.approx(numbers(single, expected), rel=NUMBERS, abs=1e-9)
    assert record.weights_sha256 != expected.weights_sha256, "it was not split at all"


def test_what_goes_wrong_on_the_other_node_is_what_the_record_says(submit):
    one = submit("model.fail=elsewhere")
    assert one.wait() == "FAILED"
    record = record_of(one.run, 1)
    assert record.status is Status.FAILED
    assert record.error == ("process 1: RuntimeError: asked to fail, but not in the first process")
    assert one.events("ended")[0]["status"] == "failed"
    assert len(one.events("started")) == 1


def test_a_process_killed_on_the_other_node_fails_the_run(submit):
    one = submit("model.sleep=0.5", "trainer.max_epochs=50")
    until(lambda: checkpoints(one.run), 60, "an epoch is done")
    (pid,) = processes_of(one.run.folder / "attempts" / "1" / "log-1.txt")
    os.kill(pid, signal.SIGKILL)
    assert one.wait() == "FAILED"
    error = record_of(one.run, 1).error
    assert error == "process 1: killed by SIGKILL (out of memory, or by someone)"


def test_a_preempted_run_resumes_bit_for_bit(submit, cluster, tmp_path):
    one = submit("model.sleep=0.5", "trainer.max_epochs=12")
    until(lambda: checkpoints(one.run), 60, "an epoch is done")
    cluster.submit("sleep 2", "-p", "high", "--ntasks=6", "--nodes=3", "--exclusive")
    until(lambda: record_of(one.run, 1), 60, "it has left")
    assert record_of(one.run, 1).status is Status.INTERRUPTED
    until(lambda: record_of(one.run), 90, "it is done")
    record = record_of(one.run)
    assert record.resumed_from_epoch >= 1
    assert record.substance() == alone(one.run, tmp_path, 2)[1].substance()
    assert one.wait() in ("COMPLETED", "")


def test_a_run_whose_other_node_fails_goes_on_elsewhere(submit, cluster, tmp_path):
    one = submit("model.sleep=0.5", "trainer.max_epochs=12")
    until(lambda: checkpoints(one.run), 60, "an epoch is done")
    first = one.events("started")[0]["node"]
    expanded = cluster.slurm("squeue", "--noheader", f"--jobs={one.job}", "--format=%N")
    nodes = cluster.slurm("scontrol", "show", "hostnames", expanded).split()
    (other,) = set(nodes) - {first}
    cluster.script("node", "kill", other)
    try:
        until(lambda: len(one.events("started")) >= 2, 120, "it is started again")
        assert one.wait(90) == "COMPLETED", one.logs()
    finally:
        cluster.script("node", "start", other)
    record = record_of(one.run)
    assert record.resumed_from_epoch >= 1
    assert record.substance() == alone(one.run, tmp_path, 2)[1].substance()
