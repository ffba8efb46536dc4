"""Chaos on a real cluster: every run ends once, with the undisturbed result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from retable.runs import records
from retable.util import paths
from support.chaos import Chaos, done_attempts, epochs_repeated, settled, unsettled
from support.slurm import SAVED, new_cluster, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SEED = int(os.environ.get("RETABLE_CHAOS_SEED", "0"))
EPOCHS = 12
SWEEP = [
    "experiment=digits/smoke",
    f"trainer.max_epochs={EPOCHS}",
    "model.sleep=0.4",  # long enough to be hit in an epoch, without a share of the cores
    "data.num_workers=0",
]
# Each event of support/chaos.py once or twice, or some five times.
LONG = pytest.param(60, 120, marks=pytest.mark.nightly)


def train(folder: Path, *overrides: str, **env: str) -> str:
    """A multirun of the command line; returns what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "retable", "train", "-m", *SWEEP, *overrides],
        env=os.environ | {"RETABLE_RUNS": str(folder)} | env,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(("count", "seconds"), [(30, 30), LONG])
def test_every_run_ends_once_with_the_result_of_an_undisturbed_one(
    tmp_path, capsys, count, seconds
):
    plain, runs = tmp_path / "plain", tmp_path / "runs"
    seeds = f"seed=range(0,{count})"
    train(plain, seeds, "launcher.workers=12")
    with new_cluster() as cluster:
        cluster.script("up")
        daemons = Counter(cluster.processes().values())
        environment = {"SLURM_CONF": str(cluster.root / "slurm.conf")}
        slurm = ["launcher=slurm", "cluster=dev", "launcher.lease_s=10", "launcher.grace_s=5"]
        train(runs, seeds, *slurm, "launcher.runs_per_job=5", **environment)
        time.sleep(SAVED)
        chaos = Chaos(cluster, runs, SEED)
        chaos.go_on(seconds)
        assert settled(runs)["done"] < count, "over before the chaos was"

        released: list[str] = []

        def drained() -> bool:
            """Released is a job whose start failed on a node just killed: SLURM holds it then."""
            lines = cluster.slurm("squeue", "--noheader", "--array", "--format=%i|%T|%r")
            waiting = [line.split("|") for line in lines.splitlines()]
            for job in (job for job, _, reason in waiting if "held" in reason):
                cluster.slurm("scontrol", "release", job)
                released.append(job)
            return not waiting

        try:
            until(drained, 420, "the queue drains")
        except AssertionError as error:
            left = cluster.slurm("squeue", "--format=%i %T %r")
            raise AssertionError(f"{error}; in it: {left}") from None
        requeues = sum(
            state in {"REQUEUED", "PREEMPTED", "NODE_FAIL"} for state in cluster.accounted("1")
        )
        events = Counter(
            json.loads(line)["event"]
            for path in runs.glob("_slurm/*/events/*.jsonl")
            for line in path.read_text().splitlines()
            if line.startswith("{")
        )
        until(lambda: Counter(cluster.processes().values()) <= daemons, 20, "no process is left")

    folders = list(paths.run_folders(runs))
    repeated = [epochs_repeated(folder) for folder in folders]
    attempts = sum(len(records.attempts(folder)) for folder in folders)
    with capsys.disabled():
        about = ", ".join(f"{often} {what}" for what, often in sorted(chaos.counts.items()))
        print(f"\nchaos with seed {SEED}: {about}")
        own = events["requeued"]
        print(f"{count} runs in {attempts} attempts; {requeues} requeues, {own} own;")
        print(f"held by SLURM and released: {', '.join(released) or 'none'};")
        print(f"{sum(lost for _, lost in repeated)} epochs in flight lost and repeated")
    assert settled(runs) == {"done": count}, unsettled(runs)
    assert len(folders) == count
    for folder in folders:
        mine = records.read(folder / records.RUN_RECORD)
        other = records.read(plain / "digits" / folder.name / records.RUN_RECORD)
        assert mine is not None
        assert other is not None
        assert mine.substance() == other.substance()
        assert done_attempts(folder) == 1, "it ran twice to completion"
        left = {p.name for p in folder.iterdir()} - {"attempts", "config.yaml", "record.json"}
        assert not left, "a lease or a temporary file is left"
    assert sum(finished for finished, _ in repeated) == 0, "an epoch was finished twice"
    assert len(chaos.counts) == 5, "something did not happen"
    assert attempts > count
    shutil.rmtree(runs)
