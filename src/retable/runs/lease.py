"""One runner per run, also across nodes that share a file system.

The lease is a file that is linked into place, which only one can do. On the same machine it lives
as long as its owner's process: a heartbeat that is late there says only that the machine is busy
or was asleep. From elsewhere, and where the owner is stopped (SIGSTOP, Ctrl-Z), its age decides:
the owner touches it, and others read the file server's clock off a file that they write beside
it. A lease broken wrongly costs time, never data: attempts are separate and the second record is
refused.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retable.runs.frozen import FILE as CONFIG
from retable.runs.records import RUN_RECORD

FILE = "lease.json"
_LEASE_S = re.compile(r"^ *lease_s: ([0-9.]+)$", re.MULTILINE)
_LEAST_S, _UNKNOWN_S = 60.0, 3600.0


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str] | None:
    """State of a process, and its start in clock ticks since boot, which tells a reused pid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # The command's name may hold spaces and brackets; fields are counted after the last one.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]


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
        me = _process(os.getpid())
        return cls(
            nonce=secrets.token_hex(8),
            host=socket.gethostname(),
            boot=_boot_id(),
            namespace=_namespace(),
            pid=os.getpid(),
            started=me and me[1],
            job=os.environ.get("SLURM_JOB_ID"),
        )

    def is_alive(self) -> bool | None:
        """Whether the process exists; None where that says nothing: elsewhere, or stopped."""
        here = Holder.me()
        if (self.host, self.boot, self.namespace) != (here.host, here.boot, here.namespace):
            return None
        process = _process(self.pid)
        if process is None or process[1] != self.started:
            return False
        return {"Z": False, "X": False, "T": None, "t": None}.get(process[0], True)


def read_holder(folder: Path) -> Holder | None:
    """Who holds a run's lease; None where nobody does or the file is broken."""
    try:
        return _parse(folder / FILE)
    except OSError:
        return None


def _parse(path: Path) -> Holder | None:
    text = path.read_bytes()
    try:
        content: dict[str, Any] = json.loads(text)
        return Holder(**content)
    except (ValueError, TypeError):
        return None


def is_held(folder: Path, lease_s: float) -> bool:
    """Whether a runner that has to be taken for alive holds a run's lease."""
    return _is_dead(folder, read_holder(folder), lease_s) is False


def lease_s(folder: Path) -> float:
    """Age from which a lease counts as dead where its holder cannot be asked.

    A run's launch has said it in the config that it froze; an hour where that cannot be read.
    """
    with suppress(OSError, ValueError):
        found = _LEASE_S.search((folder / CONFIG).read_text(encoding="utf-8"))
        if found is not None:
            return max(_LEAST_S, float(found[1]))
    return _UNKNOWN_S


def is_busy(folder: Path) -> bool:
    """Whether a run is held by the rule of its own launch; also where that cannot be told."""
    try:
        return is_held(folder, lease_s(folder))
    except OSError:
        return True  # nothing can be written here, so that no clock can be asked


def _is_dead(folder: Path, holder: Holder | None, lease_s: float) -> bool | None:
    """Whether a lease may be broken; None where there is none any more."""
    age = _age(folder)
    if age is None:
        return None
    alive = None if holder is None else holder.is_alive()
    if alive is not None:
        return not alive
    if age < 0:
        # The clock jumped back, and its last heartbeat says nothing. It gets the time from now
        # on; who lives would have touched it just so.
        with suppress(OSError):
            os.utime(folder / FILE)
    return age > lease_s


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
            dead = _is_dead(folder, other, lease_s)
            if dead is False:
                return None
            if dead:
                _break(folder, other)
        return None

    def _mine(self) -> bool:
        current = _parse(self.folder / FILE)
        return current is not None and current.nonce == self.holder.nonce

    def _beat(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                if not self._still_mine():
                    self.lost.set()
                    return
                os.utime(self.folder / FILE)
            except OSError:
                # The folder vanished or the server is away; the record's link decides in the end.
                continue

    def _still_mine(self) -> bool:
        try:
            return self._mine()
        except FileNotFoundError:
            # Another runner took it away, wrongly. It has done the run and left, or has no lease
            # of its own yet: see _break.
            return not (self.folder / RUN_RECORD).exists() and _create(self.folder, self.holder)

    def release(self) -> None:
        """Give the lease back, unless it is another's by now."""
        self._stop.set()
        self._thread.join()
        for _ in range(5):
            try:
                if self._mine():
                    (self.folder / FILE).unlink(missing_ok=True)
                return
            except FileNotFoundError:
                time.sleep(0.02)  # it may be put back yet: see _break
            except OSError:
                return


def _create(folder: Path, holder: Holder) -> bool:
    # Written whole under another name first: a reader never sees a half-written lease.
    temporary = folder / f".lease.{holder.nonce}"
    try:
        temporary.write_text(json.dumps(holder.__dict__), encoding="utf-8")
        (folder / FILE).hardlink_to(temporary)
    except FileExistsError:
        # A file server may have made the link and lost its answer.
        return temporary.stat().st_nlink == 2
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
    found = _parse(grave)
    if found is not None and (seen is None or found.nonce != seen.nonce):
        # Between reading and renaming, another runner had broken it and taken its own.
        try:
            (folder / FILE).hardlink_to(grave)
        except FileExistsError:
            pass
    grave.unlink(missing_ok=True)
