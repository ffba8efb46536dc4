"""Runs that W&B followed offline, without training: real ``.wandb`` files, true records."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from retable.runs import frozen, records
from retable.runs.frozen import recorded
from retable.runs.history import history_text
from retable.runs.records import Record, ResultRow, Status
from retable.tracking import ledger, naming, tags, wandb_run
from retable.tracking.ledger import Ledger
from retable.util import paths
from retable.wandb_tools import api, local_runs, rewrite, sync
from retable.wandb_tools.local_runs import HISTORY, Local
from support import wandb_stand_in
from support.job import (
    LAUNCHED,
)
from support.runs import freeze, wait_for
from support.tracking import inspected

HELD = """
import json, sys
from pathlib import Path
from retable.tracking import wandb_run
given = json.loads(sys.stdin.readline())
run = wandb_run.start(wandb_run.Opening(**given["opening"]), Path(given["folder"]), "offline")
for row in given["rows"]:
    wandb_run.log(run, row)
sys.stdin.read()
"""
"""Logs as a follower does, and is there until it is killed."""
_kept = tempfile.TemporaryDirectory(prefix="retable-tests-")
_written: dict[str, Path] = {}
"""Folders that the library has written, by what was to be written."""


def followed(seed=0, **more):
    """A frozen run that W&B follows offline, written."""
    run = freeze("logger=wandb", "logger.mode=offline", seed=seed, **more)
    frozen.write(run)
    return run


def rows(epochs):
    """A history with numbers that are no round ones."""
    return [
        {"epoch": e, "train/loss": 1 / (e + 3), "val/accuracy": 1.0 if e else 0.1 + 0.2}
        for e in range(epochs)
    ]


def record(run, number, epochs, status=Status.DONE, **changes):
    done = status is Status.DONE
    fields = {
        "key": run.key,
        "paper": run.config.paper,
        "experiment": run.config.experiment,
        "protocol": run.config.protocol,
        "seed": run.config.seed,
        "config": recorded(run.config),
        "status": status,
        "error": None if done else f"{status.value} for a test",
        "results": [ResultRow(metric="test/accuracy", value=0.1 + 0.7)] if done else [],
        "attempt": number,
        "started": f"2026-01-01T00:00:0{number}+00:00",
        "wall_s": 1.5,
        "cpu_s": 1.0,
        "peak_memory_mb": 1.0,
        "device": "cpu",
        "threads": 1,
        "workers": 1,
        "weights_sha256": "0" * 64 if done else None,
        "history_sha256": records.text_sha256(history_text(rows(epochs))) if done else None,
        "fingerprint": run.fingerprint,
        "provenance": LAUNCHED.provenance,
    }
    return Record(**{**fields, **changes})


def attempt(
    run, number, *, begin=0, end=3, status: Status | None = Status.DONE, closed=True, generation=0
):
    """An attempt with its history, record, segment and ledger, as its job and follower leave it.

    Args:
        run: frozen.
        number: of the attempt.
        begin: first epoch that it told W&B of.
        end: epochs of its history.
        status: how it ended; None where it was killed and has no record.
        closed: whether its follower ended well, else it was killed.
        generation: how often the run was started anew.
    """
    path = run.folder / "attempts" / str(number)
    path.mkdir(parents=True)
    (path / HISTORY).write_text(history_text(rows(end)))
    made = status and record(run, number, end, status)
    if made:
        written = records.write_attempt(path, made)
        if status is Status.DONE:
            records.publish(written, run.folder)
    runs = run.folder.parents[1]
    stand_in = made or record(run, number, end)
    identifier = naming.run_id(run.key, run.fingerprint, generation)
    told = tags.read(runs, run.config.paper, run.key)
    whole = Local(identifier, run, path, stand_in, history_text(rows(end)), told)
    given = json.loads(rewrite.order(whole, naming.folder(runs), after=begin - 1))
    before = set((naming.folder(runs) / "wandb").glob("*"))
    (_closed if closed else _killed)(given)
    [segment] = set((naming.folder(runs) / "wandb").glob("offline-run-*")) - before
    good = closed and bool(made) and status not in wandb_run.PREEMPTED
    Ledger(identifier, "offline", segment.name, end, good).write(path)
    return path


def _closed(given):
    """Ended well: written by the library once, and copied where the same is to be written again."""
    place = Path(given["folder"]) / "wandb"
    key = json.dumps({**given, "folder": ""}, sort_keys=True)
    known = _written.get(key)
    if known is not None and not (place / known.name).exists():
        shutil.copytree(known, place / known.name, symlinks=True)
        return
    before = set(place.glob("offline-run-*"))
    code = (
        "import json, sys; from retable.wandb_tools.rewrite import write;"
        "write(json.load(sys.stdin))"
    )
    subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(given), text=True, check=True,
        env=wandb_run.environment(), capture_output=True,
    )  # fmt: skip
    [segment] = set(place.glob("offline-run-*")) - before
    kept = Path(_kept.name) / f"{len(_written)}" / segment.name
    _written[key] = Path(shutil.copytree(segment, kept, symlinks=True))


def _killed(given):
    """Killed, and its service with it, once all rows are in the file."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD], stdin=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=wandb_run.environment(), start_new_session=True,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.flush()
    files = Path(given["folder"]) / "wandb"
    name = f"*/run-{given['opening']['id']}.wandb"

    def is_written():
        found = [inspected(file) for file in files.glob(name)]
        return any(f.exit_code is None and f.rows == given["rows"] for f in found)

    wait_for(is_written, 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def moved(run, runs):
    """The same frozen run below another folder of all runs."""
    paths = run.config.paths.model_copy(update={"runs": str(runs)})
    config = run.config.model_copy(update={"paths": paths})
    return frozen.FrozenRun(config, run.key, run.fingerprint)


def locals_of(run):
    """What lies here of the runs of W&B that a run stands for."""
    return list(local_runs.of_run(run, ledger.of_run(run.folder)))


def local_of(run):
    """What there is to upload of a run; it is one."""
    [found] = locals_of(run)
    assert isinstance(found, Local)
    return found


@pytest.fixture
def server(monkeypatch):
    """A stand-in of W&B's server that this process and its children are logged in to."""
    with wandb_stand_in.running() as served:
        monkeypatch.delenv("WANDB_MODE", raising=False)
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        # The library's own patience, shortened.
        monkeypatch.setitem(api.RETRIES, "retry_max", 1)
        monkeypatch.setitem(api.RETRIES, "retry_wait_min_seconds", 0.1)
        monkeypatch.setitem(api.RETRIES, "retry_wait_max_seconds", 0.2)
        yield served
        import wandb

        wandb.teardown()  # its settings are read once in a process


def synced(runs, waits=(0.0,), said=None, **more):
    """Sync all runs of a folder, in this process."""
    found = sync.find(paths.run_folders(runs))
    assert not found.broken
    with_login = api.connect(pytest.fail)
    say = pytest.fail if said is None else said.append
    target = sync.Target(with_login)
    return sync.sync(found.locals, target, workers=2, waits=waits, say=say, **more)


def uploads(served):
    """How many runs were begun to be uploaded."""
    return served.calls.count("RunResumeStatus")
