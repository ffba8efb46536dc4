"""Which processes belong to the cluster. Told by /proc alone, so no pid file can be stale."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from layout import MARK

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process as it was when looked at.

    Attributes:
        pid: Its number.
        parent: Its parent's number.
        born: When it started, in ticks since the machine did; tells it from a later one.
        name: The name that the kernel has for it, at most 15 characters.
        arguments: Its command line.
    """

    pid: int
    parent: int
    born: int
    name: str
    arguments: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """What it was started with; empty if it may not be read."""
        try:
            raw = (PROC / str(self.pid) / "environ").read_bytes()
        except OSError:
            return {}
        pairs = (item.partition("=") for item in os.fsdecode(raw).split("\0"))
        return {name: value for name, _, value in pairs}

    def opened(self) -> set[str]:
        """Paths of its open files; empty if they may not be read."""
        paths: set[str] = set()
        with suppress(OSError):
            for link in (PROC / str(self.pid) / "fd").iterdir():
                with suppress(OSError):  # closed meanwhile
                    paths.add(str(link.readlink()))
        return paths


def alive() -> Iterator[Process]:
    """All processes except zombies and this one."""
    for folder in PROC.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):  # gone meanwhile
            # The name is in parentheses and may itself hold some: the last one ends it.
            before, _, after = (folder / "stat").read_text(errors="replace").rpartition(")")
            fields = after.split()  # the third of /proc/PID/stat and on
            if fields[0] in "ZX":
                continue
            arguments = os.fsdecode((folder / "cmdline").read_bytes()).split("\0")[:-1]
            name = before.partition("(")[2]
            parent, born = int(fields[1]), int(fields[19])
            yield Process(int(folder.name), parent, born, name, tuple(arguments))


def daemon(conf: Path, name: str, node: str | None = None) -> list[Process]:
    """A daemon of the cluster, whatever options it was started with.

    Args:
        conf: The cluster's slurm.conf.
        name: The program's name.
        node: Only the slurmd of this node.
    """
    return [
        process
        for process in alive()
        if _is(process, name) and _names(process, conf) and node in (None, _option(process, "-N"))
    ]


def foreign() -> list[Process]:
    """A slurmctld or slurmd that no rehearsal cluster has started."""
    return [
        process
        for process in alive()
        if (_is(process, "slurmctld") or _is(process, "slurmd")) and not _rehearsal(process)
    ]


def of_jobs(conf: Path, node: str | None = None) -> list[Process]:
    """What runs jobs under this slurm.conf: slurmstepd, all below it, and tasks whose parent died.

    Args:
        conf: The cluster's slurm.conf.
        node: Only what runs on this node.
    """
    everything = list(alive())
    found = {p.pid: p for p in everything if _belongs(p, conf, node)}
    while more := [p for p in everything if p.parent in found and p.pid not in found]:
        found |= {process.pid: process for process in more}
    return list(found.values())


def _is(process: Process, program: str) -> bool:
    return process.name in (program, f"{program}-wlm")  # Debian's name behind its alternatives


def _names(process: Process, conf: Path) -> bool:
    # slurmdbd has no argument that tells; munged and MariaDB hide their environment.
    if any(f"{conf.parent}/" in argument for argument in process.arguments):
        return True
    return process.environment().get("SLURM_CONF") == str(conf)


def _option(process: Process, name: str) -> str | None:
    pairs = zip(process.arguments, process.arguments[1:], strict=False)
    return next((value for option, value in pairs if option == name), None)


def _rehearsal(process: Process) -> bool:
    conf = _option(process, "-f")
    return conf is not None and Path(conf).with_name(MARK).exists()


def _belongs(process: Process, conf: Path, node: str | None) -> bool:
    if process.name.startswith("slurmstepd"):
        # It has neither arguments nor an environment, but writes to the log of its slurmd.
        logs = conf.with_name("log").glob(f"slurmd-{node or '*'}.log")
        return not process.opened().isdisjoint(map(str, logs))
    environment = process.environment()
    # A shell in which SLURM_CONF was exported has no node.
    where = environment.get("SLURMD_NODENAME")
    return environment.get("SLURM_CONF") == str(conf) and bool(where) and node in (None, where)


def stop(processes: Iterable[Process], grace: float) -> None:
    """Ends processes: by SIGTERM, and by SIGKILL those that live on after ``grace`` seconds."""
    left = list(processes)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        if number == signal.SIGTERM and not grace:
            continue
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        end = time.monotonic() + patience
        while left and time.monotonic() < end:
            # A process that is just ending has lost its arguments already.
            now = {(process.pid, process.born) for process in alive()}
            left = [process for process in left if (process.pid, process.born) in now]
            time.sleep(0.05 if left else 0)
