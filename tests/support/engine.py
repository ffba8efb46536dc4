"""A forkserver that forks nothing, to drive a pool through every ending of a run."""

from __future__ import annotations

import json
import math

import pytest

from retable.launch import local
from retable.launch.forkserver_client import Ended
from retable.launch.slurm import supervisor
from retable.launch.slurm.signals import Told
from retable.launch.slurm.submission import Entry
from retable.launch.slurm.supervisor import Supervisor
from retable.launch.slurm.task_history import Past
from retable.launch.worker import new_attempt, perform
from retable.runs import provenance
from retable.runs.attempts import Launched
from retable.runs.lease import Holder


class Fake:
    """Stands in for the forkserver: performs here, or ends as a script says.

    A script is a function of run and process that returns an exit code, or an ``Ended``.
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

    @property
    def started(self):
        return list(self.running.values())

    def wait(self, timeout):
        pid, run = next(iter(self.running.items()))
        del self.running[pid]
        script = Fake.script or (lambda run, pid: perform(run.folder, self.launched))
        how = script(run, pid)
        return [how if isinstance(how, Ended) else Ended(run, pid, int(how))]

    def signal_all(self, number):
        Fake.log.append(number)


class Supervised(Fake):
    """A job's."""

    def __init__(self, targets, source=None, supervised=False):
        assert supervised
        super().__init__(targets, source)


@pytest.fixture
def fake(monkeypatch):
    Fake.script, Fake.log, Fake.most = None, [], 0
    monkeypatch.setattr(local, "Forkserver", Fake)
    monkeypatch.setattr(supervisor, "Forkserver", Supervised)
    monkeypatch.setattr(supervisor, "_SUSPENSE_S", 0.0)
    return Fake


def dies(run, pid, *, attempt=True):
    """Leave what a killed process leaves: its lease, and an attempt without a record."""
    me = Holder.me()
    (run.folder / "lease.json").write_text(json.dumps({**me.__dict__, "pid": pid, "started": "1"}))
    if attempt:
        new_attempt(run.folder)


class Bench:
    """A task's runs with what was said about them."""

    def __init__(self, runs, *works, at_once=1, past=(), before=0):
        self.events = []
        self.told = Told(90.0)
        self.told.end = math.inf
        pairs = [(Entry(folder=str(w.folder.relative_to(runs)), before=before), w) for w in works]
        launched = Launched(provenance.collect(runs), at_once)
        self.supervisor = Supervisor(pairs, runs, launched, Past.of(past), self.told, self._say)

    def _say(self, event, **about):
        json.dumps(about)
        self.events.append((event, about))

    def go(self):
        self.supervisor.go(None)
        return self

    @property
    def said(self):
        return [(event, about.get("status") or about.get("error")) for event, about in self.events]
