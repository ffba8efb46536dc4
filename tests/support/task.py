"""Tasks of handmade submissions as processes, with a controller that only writes down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.slurm.submission import Array, Entry, Header, Submission, Tasks
from retable.launch.worker import perform
from retable.runs import frozen
from support.job import LAUNCHED
from support.runs import record_of

TASK = ["-m", "retable.launch.slurm.task"]
SETTING = ["experiment=digits/base", "trainer.max_epochs=6", "data.train_size=600"]
SLOW = "model.sleep=0.4"
SCONTROL = """#!/bin/sh
echo "$@" >> {calls}
exit $(cat {code})
"""


def freeze(*overrides, seed=0):
    """A frozen run in its folder, as a submission leaves it."""
    with hydra_ready():
        run = frozen.freeze(compose([*SETTING, f"seed={seed}", *overrides]))
    frozen.write(run)
    return run


def submit(runs: Path, *tasks, at_once=1, signal_s=90, source=None, before=0) -> Submission:
    """A submission of one array; each task is a list of runs or entries."""
    submission = Submission(runs / "_slurm" / "20260101-000000-test")
    (submission.folder / "events").mkdir(parents=True)
    (submission.folder / "log").mkdir()
    arrays = [Array(number=0, tasks=len(tasks), about="a core")]
    about = {"label": "test", "created": "now", "user": "me", "host": "here", "cluster": "dev"}
    submission.write(Header(**about, source=source, signal_s=signal_s, arrays=arrays))
    entries = [
        [
            run if isinstance(run, Entry) else Entry(folder=name_of(runs, run), before=before)
            for run in task
        ]
        for task in tasks
    ]
    submission.write_tasks(0, Tasks(tasks=entries, at_once=at_once))
    return submission


def name_of(runs, run):
    return str(run.folder.relative_to(runs))


class Job:
    """Starts a submission's tasks as SLURM would, without it.

    Signals go to every process of the task, as SLURM's do.
    """

    def __init__(self, base: Path, submission: Submission) -> None:
        self.base, self.submission = base, submission
        self.calls, self.code = base / "calls", base / "code"
        program = base / "bin" / "scontrol"
        program.parent.mkdir(exist_ok=True)
        program.write_text(SCONTROL.format(calls=self.calls, code=self.code))
        program.chmod(0o755)
        self.code.write_text("0")
        self.started: list[subprocess.Popen[str]] = []

    def arguments(self):
        return [str(self.submission.folder), "0"]

    def start(self, number=0, **env):
        """A start of the job."""
        restart = len(self.started)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")} | {
            "PATH": f"{self.base / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "71",
            "SLURM_ARRAY_JOB_ID": "70",
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_JOB_NAME": "digits",
            "SLURM_NTASKS": "1",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_NODEID": "0",
            "SLURMD_NODENAME": "n1",
            **({"SLURM_RESTART_COUNT": str(restart)} if restart else {}),
            **env,
        }
        process = subprocess.Popen(
            [sys.executable, *TASK, *self.arguments()],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def signal(self, number):
        """To every process, as to those of a step."""
        os.killpg(self.started[-1].pid, number)

    def wait(self, code=0, seconds=60):
        """What the job has printed, when it has left with this exit code."""
        out, _ = self.started[-1].communicate(timeout=seconds)
        assert self.started[-1].returncode == code, out
        return out

    def run(self, code=0, **env):
        """A start of the job that is left alone."""
        self.start(**env)
        return self.wait(code)

    def end(self):
        """Kill what is left of it."""
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def processes(self):
        """What lives of it, all starts together."""
        sessions = {process.pid for process in self.started}
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if int(session) in sessions and state != "Z":
                    found.append(int(path.parent.name))
        return found

    def events(self, *names, number=0):
        """Events of a task, those of some names where any are given."""
        told = self.submission.events(0, number)
        return [e for e in told if not names or e["event"] in names]

    def requeued(self):
        """What the controller was asked."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []


def holder_of(run):
    return json.loads((run.folder / "lease.json").read_text())


@pytest.fixture
def job(tmp_path, runs):
    """Make a job of some tasks; what is left of it at the end is killed."""
    made = []

    def make(*tasks, **about):
        one = Job(tmp_path, submit(runs, *tasks, **about))
        made.append(one)
        return one

    yield make
    for one in made:
        one.end()


@pytest.fixture
def undisturbed(tmp_path, monkeypatch):
    """Substance of a run's record where nothing happens to it; it does not sleep."""

    def of(run):
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", lambda _: None)
            paths = run.config.paths.model_copy(update={"runs": str(tmp_path / "undisturbed")})
            config = run.config.model_copy(update={"paths": paths})
            alone = frozen.FrozenRun(config, run.key, run.fingerprint)
            frozen.write(alone)
            perform(alone.folder, LAUNCHED)
        return record_of(alone).substance()

    return of


def finish(run):
    """Leave the run done, here."""
    assert perform(run.folder, LAUNCHED) == 0
