"""Runs that W&B follows, offline and for real, and what its own reader says of its files."""

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
from retable.launch.forkserver_client import Forkserver
from retable.runs import frozen, records
from retable.runs.identity import targets_of
from retable.tracking import ledger, run_payload
from support.fault import (
    children,
    undisturbed,
)
from support.runs import LAUNCHED, wait_for

EPOCHS = 4


def followed(*overrides, experiment="digits/base", seed=0, mode="offline"):
    """A frozen run that W&B is to follow, written."""
    logger = ["logger=wandb", f"logger.mode={mode}"]
    with hydra_ready():
        config = compose([f"experiment={experiment}", f"seed={seed}", *logger, *overrides])
    run = frozen.freeze(config)
    frozen.write(run)
    return run


def slow(*overrides, sleep=0.5, **more):
    """A run whose epochs last long enough to do something meanwhile."""
    return followed(f"model.sleep={sleep}", *overrides, **more)


def attempt_of(run, number=1):
    return run.folder / "attempts" / str(number)


def record_of(run):
    return records.read_run(run.folder, pytest.fail)


def history_of(run, number=1):
    text = (attempt_of(run, number) / "history.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def ledger_of(run, number=1):
    return ledger.read(attempt_of(run, number))


def log_of(run, number=1):
    return (attempt_of(run, number) / "log.txt").read_text()


def check_as_without(tmp_path, run):
    """The run is done, with the numbers of one that W&B does not follow."""
    record = records.read(run.folder / "record.json")
    assert record is not None, log_of(run)
    [expected] = undisturbed(tmp_path, without(run))
    assert record.substance() == expected
    assert not (run.folder / "lease.json").exists()


def without(run):
    """The same run, not followed."""
    logger = run.config.logger.model_copy(update={"name": "none"})
    return frozen.freeze(run.config.model_copy(update={"logger": logger}))


@dataclass
class File:
    """What W&B's own reader says of one ``.wandb`` file."""

    path: Path
    entries: list[dict]

    def of(self, kind):
        return [entry[kind] for entry in self.entries if entry["type"] == kind]

    @property
    def run(self):
        return self.of("run")[0]

    @property
    def tags(self):
        return self.of("run")[-1].get("tags", [])

    @property
    def steps(self):
        return [entry["step"].get("num", 0) for entry in self.of("history")]

    @property
    def rows(self):
        """The history, without what the library adds."""
        items = (entry["item"] for entry in self.of("history"))
        return [{k: v for k, v in item.items() if not k.startswith("_")} for item in items]

    @property
    def summary(self):
        found = {}
        for entry in self.of("summary"):
            found |= entry.get("update", {})
        return found

    @property
    def record(self):
        """The record in the summary; None where it has none."""
        text = self.summary.get(run_payload.RECORD)
        return text and records.parse(text, "summary")

    @property
    def exit_code(self):
        codes = [entry.get("exit_code", 0) for entry in self.of("exit")]
        return codes[0] if codes else None


def files_of(run):
    """W&B's files of a run, the oldest first, read by ``wandb leet inspect``."""
    found = Path(run.config.paths.runs).glob(f"_wandb/wandb/*/run-{run.key[:12]}*.wandb")
    return [inspected(path) for path in sorted(found)]


def inspected(path):
    read = subprocess.run(
        [sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--json", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
    )
    return File(path, [json.loads(line) for line in read.stdout.splitlines() if line[:1] == "{"])


@pytest.fixture(scope="module")
def server():
    """A forkserver as the engine has one."""
    with hydra_ready():
        config = compose(["experiment=digits/base", "seed=0"])
    with Forkserver(sorted(targets_of([config.data, config.model]))) as made:
        yield made


def start(server, run):
    """Start a run; returns the process that does it."""
    server.start(run, LAUNCHED)

    def forked():
        assert not server.wait(0.05), log_of(run)
        return [pid for pid, own in server.running.items() if own.folder == run.folder]

    return wait_for(forked)[0]


def ended(server, count=1, limit=60):
    """Exit codes of runs that end now."""
    codes = []
    while len(codes) < count:
        found = server.wait(limit)
        assert found, "waited too long"
        codes += [one.code for one in found]
    return codes


def command_of(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def follower_of(pid):
    """The follower's process of a job, once there is one."""
    found = wait_for(lambda: [c for c in children(pid) if "tracking.follower" in command_of(c)])
    return found[0]


def service_of(follower):
    """The service process of a follower, once there is one."""
    return wait_for(lambda: [c for c in children(follower) if "wandb-core" in command_of(c)])[0]


def is_alive(pid):
    """Whether a process is there, and no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def epochs_told(run, number=1):
    """Epochs that the follower has handed over by now."""
    found = ledger_of(run, number)
    return found.upto if found else 0


def hold(run, job, epochs=1):
    """Stop a job once so many epochs are durable, until the follower has told of them."""
    path = attempt_of(run) / "history.jsonl"
    wait_for(lambda: path.exists() and len(history_of(run)) >= epochs)
    os.kill(job, signal.SIGSTOP)
    wait_for(lambda: epochs_told(run) >= len(history_of(run)), 60)
    assert len(history_of(run)) < EPOCHS, "the machine is too slow for this test"
