"""Following, cancelling and retrying on a real SLURM, called as users do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from retable.runs.lease import read_holder
from support.slurm import until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

NAME = "digits/lives"
TABLE = """\
paper: digits
title: Lives
source: {paper_ref: "Table 1"}
metrics:
  accuracy: {key: test/accuracy, unit: "%"}
seeds: 2
columns:
  accuracy: {metric: accuracy, experiment: digits/base}
rows:
  long: [model.sleep=1, trainer.max_epochs=200]
  lost: [model.sleep=0.5, trainer.max_epochs=24]
  bad: [model.fail=raise]
  quick: [trainer.max_epochs=1]
"""
ON = ("launcher=slurm", "cluster=dev")


@pytest.fixture(autouse=True, scope="module")
def _table():
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "lives.yaml"
    file.write_text(TABLE, encoding="utf-8")
    try:
        yield
    finally:
        file.unlink()


class Calls:
    """SLURM's commands, which note that they were called; sacct can be made to fail."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        for name in ("squeue", "sacct", "scancel"):
            self.script(name, f'exec {shutil.which(name)} "$@"')

    def script(self, name, rest):
        path = self.folder / name
        path.write_text(f"#!/bin/sh\necho {name} >> {self.folder}/calls\n{rest}\n")
        path.chmod(0o755)

    def taken(self):
        path = self.folder / "calls"
        found = path.read_text().split() if path.exists() else []
        path.write_text("")
        return found


@pytest.fixture
def calls(cluster, tmp_path, monkeypatch):
    calls = Calls(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{calls.folder}:{os.environ['PATH']}")
    return calls


@pytest.fixture
def status(retable, runs):
    def look():
        found = json.loads(retable("status", NAME, "--json", RETABLE_RUNS=runs).stdout)
        cells = {
            c["row"]: {k: v for k, v in c.items() if v and k in found["runs"]}
            for c in found["cells"]
        }
        return found, cells

    return look


def test_what_is_queued_and_cancelled(cluster, calls, retable, status, runs):
    retable("run", NAME, *ON, "cluster.options={hold: true}", RETABLE_RUNS=runs)
    calls.taken()
    found, cells = status()
    assert found["runs"]["queued"] == 8
    assert {d["why"] for d in found["details"]} == {"JobHeldUser"}
    assert calls.taken() == ["squeue"]
    said = retable("status", RETABLE_RUNS=runs).stdout
    assert "8 runs, 8 queued" in said
    assert calls.taken() == ["squeue"]
    of_table = retable("status", NAME, RETABLE_RUNS=runs).stdout
    calls.taken()
    jobs = {d["job"] for d in found["details"]}
    for text in (said, of_table):
        [held] = re.findall("^ *held by SLURM, .*: scontrol release (.*)$", text, re.MULTILINE)
        assert set(held.split()) == jobs
    some = found["details"][0]
    assert "queued: JobHeldUser" in retable("logs", some["key"], RETABLE_RUNS=runs).stderr
    said = retable("cancel", NAME, "--row", "quick", "--yes", RETABLE_RUNS=runs).stdout
    assert "2 runs in 2 tasks of job" in said
    # One that somebody cancels without us, while it waits, has no trace in the accounting.
    cluster.slurm("scancel", next(d["job"] for d in found["details"] if "bad" in d["label"]))
    _, cells = status()
    assert cells["quick"] == {"cancelled": 2}
    assert cells["bad"]["queued"] == 1
    calls.taken()
    retable("cancel", NAME, "--yes", RETABLE_RUNS=runs)
    found, cells = status()
    assert found["runs"]["cancelled"] == 8
    assert calls.taken() == ["squeue", "scancel", "squeue", "sacct"]


def test_the_lives_of_a_table(cluster, calls, retable, status, runs):
    on = [*ON, "launcher.lease_s=6", "launcher.grace_s=5"]
    retable("run", NAME, *on, RETABLE_RUNS=runs)

    def wait_for(seconds, what, check):
        until(lambda: check(*status()), seconds, what)

    # Six cores, eight runs: two wait.
    wait_for(60, "six runs have begun", lambda found, _: found["runs"]["queued"] == 2)
    found, _ = status()
    assert {d["why"] for d in found["details"] if d["state"] == "queued"} <= {
        "Resources",
        "Priority",
    }
    # The process that supervises a run is killed, as by an administrator.
    folders = [Path(d["folder"]) for d in found["details"] if "lost" in d["label"]]
    until(lambda: any(map(read_holder, folders)), 60, "a run has begun")
    doomed = next(folder for folder in folders if read_holder(folder))
    os.kill(_parent(_parent(read_holder(doomed).pid)), signal.SIGKILL)
    wait_for(60, "it is lost", lambda _, cells: cells["lost"].get("lost") == 1)
    calls.taken()
    found, _ = status()
    assert calls.taken() == ["squeue", "sacct"]
    why = next(d["why"] for d in found["details"] if d["folder"] == str(doomed))
    assert why.startswith("FAILED")

    wait_for(
        60, "epochs of long runs", lambda found, _: all(
            d["epoch"] and d["epochs"] == 200 and d["node"] and d["left"]
            for d in found["details"] if "long" in d["label"]
        ),
    )  # fmt: skip
    wait_for(60, "two have failed", lambda _, cells: cells["bad"] == {"failed": 2})
    wait_for(60, "two are done", lambda _, cells: cells["quick"] == {"done": 2})
    text = retable("status", NAME, RETABLE_RUNS=runs).stdout
    assert "failed: bad, accuracy s0" in text
    assert "RuntimeError: asked to <b>fail</b> (traceback: " in text
    assert "long, accuracy: 2 running; s0 epoch " in text or "s1 epoch " in text

    # Without sacct it is as lost, and nobody knows why.
    calls.script("sacct", 'echo "Slurm accounting storage is disabled" >&2; exit 1')
    calls.taken()
    text = retable("status", NAME, RETABLE_RUNS=runs).stdout
    assert text.count("Slurm accounting storage is disabled") == 1
    assert "1 lost" in text
    assert calls.taken() == ["squeue", "sacct"]
    calls.script(
        "sacct", f'exec {shutil.which("sacct", path=os.environ["PATH"].partition(":")[2])} "$@"'
    )

    # What runs is cancelled, and ends its epoch.
    retable("cancel", NAME, "--row", "long", "--yes", RETABLE_RUNS=runs)
    wait_for(30, "two are cancelled", lambda _, cells: cells["long"] == {"cancelled": 2})

    # What was lost is done again, where and as it was; what was cancelled is not.
    said = retable("retry", NAME, "--lost", RETABLE_RUNS=runs).stderr
    assert "as before" in said
    assert "launcher=slurm cluster=dev launcher.grace_s=5.0 launcher.lease_s=6.0" in said
    watched = retable("status", NAME, "--watch", RETABLE_RUNS=runs).stdout
    assert "2 done, 2 failed, 2 cancelled" not in watched.partition("\n")[0]
    assert "4 done, 2 failed, 2 cancelled" in watched.rpartition("digits/lives, protocol")[2]
    overview = retable("status", RETABLE_RUNS=runs).stdout
    assert overview.count("over  digits/lives") == 2


def _parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
