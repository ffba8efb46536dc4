"""A forkserver that forks nothing, to drive the engine through every ending of a run."""

from __future__ import annotations

import json
from collections import deque

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch import dispatch
from retable.launch.dispatch import Summary
from retable.launch.forkserver_client import Ended
from retable.launch.worker import new_attempt, perform
from retable.runs import frozen, records
from retable.runs.lease import Holder


def freeze(*overrides, experiment="digits/smoke", seed=0):
    with hydra_ready():
        return frozen.freeze(compose([f"experiment={experiment}", f"seed={seed}", *overrides]))


def newest(run):
    return records.read(records.attempts(run.folder)[0] / "record.json")


class Fake:
    """Stands in for the forkserver: performs here, or ends as a script says.

    A script is a function of the run that returns an exit code.
    """

    script = None
    log: list
    most = 0

    def __init__(self, targets, source=None):
        self.running = {}
        self.pid = 900_000_000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def refusal(self, runs):
        return None

    def start(self, run, launched):
        self.pid += 1
        self.running[self.pid] = run
        self.launched = launched
        Fake.log.append(run)
        Fake.most = max(Fake.most, len(self.running))

    @property
    def busy(self):
        return len(self.running)

    def wait(self, timeout):
        pid, run = next(iter(self.running.items()))
        del self.running[pid]
        script = Fake.script or (lambda run, pid: perform(run.folder, self.launched))
        return [Ended(run, pid, int(script(run, pid)))]

    def signal_all(self, number):
        Fake.log.append(number)


@pytest.fixture
def fake(monkeypatch):
    Fake.script, Fake.log, Fake.most = None, [], 0
    monkeypatch.setattr(dispatch, "Forkserver", Fake)
    return Fake


def dies(run, pid, *, attempt=True):
    """Leave what a killed process leaves: its lease, and an attempt without a record."""
    me = Holder.me()
    (run.folder / "lease.json").write_text(json.dumps({**me.__dict__, "pid": pid, "started": "1"}))
    if attempt:
        new_attempt(run.folder)


def engine_of(fake, *runs):
    """An engine in the middle of its work."""
    made = dispatch._Engine(deque(runs), Summary(), lambda r: r.label)
    made.progress = dispatch.Progress(len(runs), shown=False)
    made.server = fake([])
    return made
