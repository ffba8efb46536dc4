"""Shells that run the real command line, a disk that can be full, and permissions that hold."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.worker import perform
from retable.runs import frozen, records
from retable.runs.lease import read_holder
from retable.runs.records import Status
from support.runs import LAUNCHED


def freeze(*overrides, experiment="digits/base", seed=0):
    with hydra_ready():
        return frozen.freeze(compose([f"experiment={experiment}", f"seed={seed}", *overrides]))


def undisturbed(tmp_path, *runs):
    """Substance of runs' records where nothing happens to them; they do not sleep."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: None)
        for run in runs:
            folder = tmp_path / "undisturbed"
            paths = run.config.paths.model_copy(update={"runs": str(folder)})
            config = run.config.model_copy(update={"paths": paths})
            quiet = frozen.freeze(config)
            assert quiet.key == run.key
            frozen.write(quiet)
            perform(quiet.folder, LAUNCHED)
            found.append(records.read(quiet.folder / "record.json").substance())
    return found


def saved(run, attempt=1):
    """Checkpoints of an attempt, oldest first."""
    folder = run.folder / "attempts" / str(attempt) / "checkpoints"
    return sorted(folder.glob("epoch=*.ckpt"))


def owner(run):
    """Process that holds a run's lease."""
    holder = read_holder(run.folder)
    return holder and holder.pid


def fast_asleep(pid):
    """Whether a process waits all of half a second; one that computes or writes does not."""
    for _ in range(25):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            return False
        time.sleep(0.02)
    return True


def record_of(run, attempt=None):
    folder = run.folder if attempt is None else run.folder / "attempts" / str(attempt)
    return records.read(folder / "record.json")


def done_attempts(run):
    """Numbers of the attempts whose own record says done."""
    found = [records.read(p / "record.json") for p in records.attempts(run.folder)]
    return [r.attempt for r in found if r is not None and r.status is Status.DONE]


def log_of(run, attempt):
    return (run.folder / "attempts" / str(attempt) / "log.txt").read_text()


def counts(stderr):
    """The summary of a launch: word -> number."""
    [line] = [x for x in stderr.splitlines() if re.match(r"\d+ run, ", x)]
    parts = (part.partition(" ") for part in line.split(", "))
    return {word: int(number) for number, _, word in parts}


def failures(stderr):
    """Lines that say a run failed; each is said once."""
    lines = [x for x in stderr.splitlines() if x.startswith("failed: ")]
    assert len(lines) == len(set(lines)), lines
    return lines


def let_permissions_hold():
    """In a child before it starts: root too obeys the modes of folders.

    Without these two, a process of root's may do what the owner of a file may. For anybody else
    it is so anyway, and giving them up fails.
    """
    drop, override, search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    prctl = ctypes.CDLL(None).prctl
    for capability in (override, search):
        prctl(drop, capability, 0, 0, 0)


class Shell:
    """Starts the command line and leaves it running; what is left at the end is killed."""

    def __init__(self, cwd):
        self.cwd, self.started = cwd, []

    def start(self, *args, before=None, **env):
        process = subprocess.Popen(
            [sys.executable, "-m", "retable", *map(str, args)],
            cwd=self.cwd,
            env={**os.environ, **{k: str(v) for k, v in env.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
            process_group=0,
        )
        self.started.append(process)
        return process

    def end(self, process, code=0):
        """Wait for a command; its exit code is as expected, and nobody sees a traceback."""
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in out + err, err
        return out, err

    def call(self, *args, code=0, **more):
        return self.end(self.start(*args, **more), code)

    def close(self):
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def shell(tmp_path):
    made = Shell(tmp_path)
    yield made
    made.close()


class Disk:
    """A file system of four megabytes that can be filled up.

    A tmpfs in a mount namespace of its own, reached through the process that holds it; nothing
    stays mounted. Where that is not allowed, a limit on the size of files stands in for it.
    """

    SIZE = 2**22

    def __init__(self, base):
        self.limit = resource.RLIM_INFINITY
        (base / "disk").mkdir()
        flags = "-m" if os.geteuid() == 0 else "-Urm"
        mount = f'mount -t tmpfs -o size={self.SIZE} none "$0" && echo mounted && exec cat'
        command = ["unshare", flags, "sh", "-c", mount, str(base / "disk")]
        self.holder = None
        if shutil.which("unshare"):
            self.holder = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self.mounted = bool(self.holder and self.holder.stdout.readline() == "mounted\n")
        self.path = base / "disk"
        if self.mounted:
            self.path = Path(f"/proc/{self.holder.pid}/root{base}/disk")
        self.full = "No space left on device" if self.mounted else "File too large"

    def close(self):
        if self.holder:
            self.holder.communicate()

    def fill(self, shell, left=0):
        """Leave only so many bytes."""
        if not self.mounted:
            self.limit = left
            for process in shell.started:
                for pid in [process.pid, *descendants(process.pid)]:
                    with suppress(ProcessLookupError):
                        resource.prlimit(pid, resource.RLIMIT_FSIZE, (left, -1))
            return
        with (self.path / "ballast").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        if left:
            os.truncate(self.path / "ballast", (self.path / "ballast").stat().st_size - left)

    def free(self):
        self.limit = resource.RLIM_INFINITY
        (self.path / "ballast").unlink(missing_ok=True)

    @property
    def before(self):
        """What is to be done in a child before it starts, if anything."""
        if self.mounted:
            return None
        hard = resource.RLIM_INFINITY
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, hard))


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path)
    yield made
    made.close()


def children(pid):
    found = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in path.read_text().split()]
    return found


def descendants(pid):
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]
