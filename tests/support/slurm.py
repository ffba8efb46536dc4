"""A rehearsal cluster of the tests' own, with its own folder and ports, called as users do."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "slurm" / "dev-cluster"
NODES = ("n1", "n2", "n3")
# Seconds after which the controller has saved a change: every 5 s at most, later on a busy machine.
# Of a job, `Cluster.until_saved` knows.
SAVED = 10.0
LOCK = Path(tempfile.gettempdir()) / f"retable-slurm-tests-{os.getuid()}.lock"
NEEDED = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "srun")


@dataclass(frozen=True)
class Cluster:
    """A cluster in a folder, up or not.

    Attributes:
        root: Its folder.
        port: The first of its ports.
    """

    root: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """For the scripts: where the cluster is; no SLURM is meant yet."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "RETABLE_DEV"))}
        return kept | {
            "RETABLE_DEV_CLUSTER": str(self.root),
            "RETABLE_DEV_CLUSTER_PORT": str(self.port),
            "RETABLE_DEV_CLUSTER_NODES": str(len(NODES)),
            "RETABLE_DEV_CLUSTER_REQUEUE": "5",
        }

    def script(self, name: str, *arguments: str, code: int = 0, **env: str):
        """Calls up, down, status or node; refused calls of another worker's test wait."""
        with shared():
            return self.script_unlocked(name, *arguments, code=code, **env)

    def script_unlocked(self, name: str, *arguments: str, code: int = 0, **env: str):
        """The same where the caller holds the lock."""
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / name), *arguments],
            env=self.environment | env,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def slurm(self, *command: str, code: int = 0, timeout: float = 60) -> str:
        """What a command of SLURM prints on this cluster."""
        done = subprocess.run(
            command,
            env=self.environment | {"SLURM_CONF": str(self.root / "slurm.conf")},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """The id of a job that runs this shell command."""
        log = self.root / "log" / "job-%j.txt"
        return self.slurm("sbatch", "--parsable", f"--output={log}", *options, f"--wrap={script}")

    def state(self, job: str) -> str:
        """What squeue says of a job or of all tasks of its array; "" when it is gone from there."""
        return self.slurm("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def until_saved(self, job: str) -> None:
        """Waits until the controller has saved the job as it is; if killed before, it forgets."""
        mark = f"saved {time.monotonic_ns()}"
        self.slurm("scontrol", "update", f"JobId={job}", f"AdminComment={mark}")

        def saved() -> bool:
            try:
                return mark.encode() in (self.root / "state" / "job_state").read_bytes()
            except FileNotFoundError:  # none yet, or it is just being replaced
                return False

        until(saved, 60, "the job is saved")

    def accounted(self, job: str) -> list[str]:
        """The states of a job's runs in sacct, requeued ones too."""
        columns = ("--noheader", "--parsable2", "--format=State")
        text = self.slurm("sacct", "--duplicates", "--allocations", f"--jobs={job}", *columns)
        return [line.split()[0] for line in text.splitlines()]

    def node_state(self, node: str) -> str:
        """What sinfo says of a node, with the star of one that does not respond."""
        # All nodes are asked for: the answer for one alone may be as old as the last such answer.
        lines = self.slurm("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)[node]

    def processes(self) -> dict[int, str]:
        """All that belongs to the cluster in any way, by what /proc shows: pid and command line."""
        found: dict[int, str] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    continue
                command = (folder / "cmdline").read_bytes()
                about = command + (folder / "environ").read_bytes()
                opened = " ".join(str(link.readlink()) for link in (folder / "fd").iterdir())
            except OSError:
                continue
            if f"{self.root}/".encode() in about + opened.encode():
                found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def pid(self, program: str) -> int:
        """The process of a daemon that there is once."""
        (found,) = (
            pid
            for pid, command in self.processes().items()
            if Path(command.split(" ")[0]).name == program
        )
        return found

    def listening(self) -> list[int]:
        """Ports of the cluster that somebody listens on."""
        found: list[int] = []
        for port in range(self.port, self.port + 2 + len(NODES)):
            with socket.socket() as probe:
                if probe.connect_ex((socket.gethostbyname(socket.gethostname()), port)) == 0:
                    found.append(port)
        return found


@contextmanager
def shared(exclusive: bool = False) -> Iterator[None]:
    """Keeps the tests of other workers from seeing what is to be refused."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


@contextmanager
def new_cluster() -> Iterator[Cluster]:
    """A place for a cluster, not up; all of it is gone in the end. Skips without SLURM."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [command for command in NEEDED if not shutil.which(command, path=path)]:
        pytest.skip(f"needs SLURM: no {', '.join(missing)}")
    root = Path(tempfile.mkdtemp(prefix="retable-slurm-"))
    cluster = Cluster(root, _ports(2 + len(NODES)))
    try:
        yield cluster
    finally:
        cluster.script("down")
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def slurm_place() -> Iterator[Cluster]:
    """The cluster of all tests that need one."""
    with new_cluster() as cluster:
        cluster.script("up")
        yield cluster


@pytest.fixture
def cluster(slurm_place: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Up, without jobs, and the one that is meant; made so again whatever a test does to it."""
    for name in [n for n in os.environ if n.startswith(("SLURM", "SBATCH"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", str(slurm_place.root / "slurm.conf"))
    yield slurm_place
    slurm_place.script("up")
    slurm_place.slurm("scancel", "--user", str(os.getuid()), "--quiet")
    until(lambda: not slurm_place.slurm("squeue", "--noheader"), 60, "the queue is empty")


def until(check: Callable[[], object], seconds: float, what: str) -> None:
    """Waits until something holds; fails with what it was."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not in {seconds:g} s: {what}"
        time.sleep(0.2)


def _ports(count: int) -> int:
    """The first of some ports in a row that are free, other ones in each process."""
    for first in range(20000 + os.getpid() % 500 * 20, 31000, 20):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")
