"""One runner per run, also across nodes that share a file system.

The lease is a file made with O_EXCL. Its owner touches it; others judge its age by the file
server's clock, which they read off a file that they write beside it. A lease broken wrongly costs
time, never data: attempts are separate and the second record is refused.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "lease.json"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; tells a reused pid apart."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # The command's name may hold spaces and brackets; fields are counted after the last one.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease."""

    nonce: str
    host: str
    boot: str
    namespace: str
    pid: int
    started: str | None
    job: str | None

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        return cls(
            nonce=secrets.token_hex(8),
            host=socket.gethostname(),
            boot=_boot_id(),
            namespace=_namespace(),
            pid=os.getpid(),
            started=_start_time(os.getpid()),
            job=os.environ.get("SLURM_JOB_ID"),
        )

    def is_dead(self) -> bool:
        """Whether this is surely over: a process of this machine that no longer exists."""
        here = Holder.me()
        if (self.host, self.boot, self.namespace) != (here.host, here.boot, here.namespace):
            return False
        return self.started is None or _start_time(self.pid) != self.started


def read_holder(folder: Path) -> Holder | None:
    """Who holds a run's lease; None where nobody does or the file is broken."""
    try:
        content: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Holder(**content)
    except (OSError, ValueError, TypeError):
        return None


def _age(folder: Path) -> float | None:
    """Seconds since the last heartbeat, by the file server's clock."""
    probe = folder / f".probe.{secrets.token_hex(6)}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        return now - (folder / FILE).stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


class Lease:
    """A held lease with its heartbeat; ``lost`` is set when another runner took it."""

    def __init__(self, folder: Path, holder: Holder, lease_s: float) -> None:
        self.folder = folder
        self.holder = holder
        self.lost = threading.Event()
        self._stop = threading.Event()
        self._interval = lease_s / 6
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, folder: Path, lease_s: float) -> Lease | None:
        """Take a run's lease, breaking a dead one; None where another runner is alive."""
        holder = Holder.me()
        for _ in range(3):
            if _create(folder, holder):
                return cls(folder, holder, lease_s)
            other = read_holder(folder)
            age = _age(folder)
            if age is None:
                continue
            # A clock that jumped back gives a negative age: that says nothing, so wait.
            dead = other is not None and other.is_dead()
            if not dead and age <= lease_s:
                return None
            _break(folder, other)
        return None

    def _mine(self) -> bool:
        current = read_holder(self.folder)
        return current is not None and current.nonce == self.holder.nonce

    def _beat(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                if not self._mine():
                    self.lost.set()
                    return
                os.utime(self.folder / FILE)
            except OSError:
                # The folder vanished or the server is away; the record's link decides in the end.
                continue

    def release(self) -> None:
        """Give the lease back, unless it is another's by now."""
        self._stop.set()
        self._thread.join()
        if self._mine():
            (self.folder / FILE).unlink(missing_ok=True)


def _create(folder: Path, holder: Holder) -> bool:
    # Written whole under another name first: a reader never sees a half-written lease.
    temporary = folder / f".lease.{holder.nonce}"
    temporary.write_text(json.dumps(holder.__dict__), encoding="utf-8")
    try:
        (folder / FILE).hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _break(folder: Path, seen: Holder | None) -> None:
    """Take a dead lease away; put it back where it turned out to be another one."""
    grave = folder / f".broken.{secrets.token_hex(6)}"
    try:
        (folder / FILE).rename(grave)
    except FileNotFoundError:
        return
    try:
        nonce = json.loads(grave.read_text(encoding="utf-8")).get("nonce")
    except (OSError, ValueError):
        nonce = None
    if seen is not None and nonce != seen.nonce:
        # Between reading and renaming, another runner had broken it and taken its own.
        try:
            (folder / FILE).hardlink_to(grave)
        except FileExistsError:
            pass
    grave.unlink(missing_ok=True)
