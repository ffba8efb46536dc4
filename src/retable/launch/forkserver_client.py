"""Runs on this machine: a forkserver and the runs it keeps going."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from retable.launch import forkserver_server
from retable.runs import snapshot
from retable.runs.attempts import Launched, launched_json
from retable.runs.frozen import FrozenRun
from retable.util.errors import UserError

# A process with threads must not fork. OMP and BLAS: until a run asks for more; the last is of the
# allocator that comes with pyarrow, which keeps a thread for cleaning up.
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


@dataclass(frozen=True)
class Ended:
    """A job that is over.

    Attributes:
        run: what it was to do.
        pid: its process.
        code: exit code, negative where a signal killed it.
        elsewhere: another runner has done the run, or has taken it over.
        error: why it left no record, where it could say so.
    """

    run: FrozenRun
    pid: int
    code: int
    elsewhere: bool = False
    error: str | None = None


@dataclass
class Forkserver:
    """The server process, used as a context manager.

    Args:
        targets: everything the runs will build, loaded once.
        source: folder put first on the module path; the checkout's own where None.
        supervised: by a job of a cluster, whose processes all get its signals; see
            ``forkserver_server.serve``.
    """

    targets: Sequence[str]
    source: Path | None = None
    supervised: bool = False
    running: dict[int, FrozenRun] = field(default_factory=dict[int, FrozenRun])
    _starting: dict[str, FrozenRun] = field(default_factory=dict[str, FrozenRun])
    _last: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    _buffer: bytes = b""
    _stopping: signal.Signals | None = None

    def __enter__(self) -> Forkserver:
        self._open()
        return self

    def _open(self) -> None:
        self._replies, server_end = os.pipe()
        self._buffer = b""
        environment = {**os.environ, **_ONE_THREAD}
        if self.source is not None:
            path = os.environ.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join(
                [str(self.source), *([path] if path else [])]
            )
            if (self.source / snapshot.EXTRA).is_dir():
                environment["RETABLE_EXTRA"] = str(self.source / snapshot.EXTRA)
        # Ctrl-C reaches the whole process group, and only the launch itself is to act on it.
        deaf_to = {signal.SIGINT}
        arguments: list[str] = []
        if self.supervised:
            deaf_to |= forkserver_server.TO_A_JOB
            arguments = [forkserver_server.SUPERVISED]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, deaf_to)
        try:
            # -P: what a run imports does not depend on the folder it is launched from.
            server = ["-P", "-m", "retable.launch.forkserver_server", str(server_end), *arguments]
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, *server],
                stdin=subprocess.PIPE,
                pass_fds=(server_end,),
                env=environment,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(server_end)
        try:
            self._send({"preload": sorted(self.targets)})
            while not any("ready" in message for message in self._receive(600)):
                if self._process.poll() is not None:
                    raise _gone()
        except BaseException:
            self._process.kill()  # it may be in the middle of its imports
            self._close()
            raise

    def refusal(self, runs: Sequence[FrozenRun]) -> tuple[FrozenRun, str] | None:
        """Refusal by the classes that runs are built of, if any; before any run is started."""
        settings = list({run.keys([0])[0]: run for run in runs}.values())
        self._send({"rehearse": [run.config.model_dump(mode="json") for run in settings]})
        pid: int | None = None
        found: tuple[FrozenRun, str] | None = None
        while self._process.poll() is None:
            for message in self._receive(1):
                pid = message.get("rehearsing", pid)
                if refused := message.get("rehearsed"):
                    found = settings[refused[0]], refused[1]
                if "status" in message and message["pid"] == pid:
                    return found
        return None

    def start(self, run: FrozenRun, launched: Launched, *, leave: bool = False) -> None:
        """Fork a process that performs a frozen run already written to its folder.

        Args:
            run: the run.
            launched: provenance of the launch.
            leave: told from the start to leave at the end of its epoch.
        """
        self._begin(run, {"launched": launched_json(launched), "leave": leave})

    def follow(self, run: FrozenRun, part: dict[str, Any]) -> None:
        """Fork a process that does a part of a run that another process performs.

        Args:
            run: the run.
            part: what ``multiprocess.follow_as_told`` takes.
        """
        self._begin(run, {"follow": part})

    def _begin(self, run: FrozenRun, command: dict[str, Any]) -> None:
        if self._process.poll() is not None:
            self._close()
            self._open()
        folder = str(run.folder.absolute())
        self._starting[folder] = run
        self._send({"folder": folder, "grace_s": run.config.launcher.grace_s, **command})

    @property
    def busy(self) -> int:
        """Jobs that have been started and have not ended."""
        return len(self.running) + len(self._starting)

    @property
    def started(self) -> list[FrozenRun]:
        """Runs of the jobs that have not ended."""
        return [*self.running.values(), *self._starting.values()]

    def wait(self, timeout: float) -> list[Ended]:
        """Jobs that ended within ``timeout`` seconds; returns as soon as there are any."""
        ended: list[Ended] = []
        deadline = time.monotonic() + timeout
        while not ended and self.busy and (left := deadline - time.monotonic()) > 0:
            for message in self._receive(left):
                if "forked" in message:
                    self.running[message["pid"]] = self._starting.pop(message["forked"])
                    if self._stopping is not None:
                        _kill(message["pid"], self._stopping)
                elif "last" in message:
                    self._last[message["last"]] = message
                elif "status" in message:
                    pid = message["pid"]
                    said = self._last.pop(pid, {"elsewhere": False, "error": None})
                    ended.append(
                        Ended(
                            self.running.pop(pid),
                            pid,
                            message["status"],
                            said["elsewhere"],
                            said["error"],
                        )
                    )
            if self._process.poll() is not None:
                # Nobody would see its jobs end any more.
                lost = [*self.running.items(), *((0, run) for run in self._starting.values())]
                for pid in self.running:
                    _kill(pid, signal.SIGKILL)
                self.running.clear()
                self._starting.clear()
                return [*ended, *(Ended(run, pid, -signal.SIGKILL) for pid, run in lost)]
        return ended

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to every running job, and to those that are only starting."""
        self._stopping = number
        for pid in self.running:
            _kill(pid, number)

    def _send(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write((json.dumps(message) + "\n").encode())
            stdin.flush()
        except BrokenPipeError:
            if "preload" in message:
                raise _gone() from None
            # A run that could not be started ends with its server: see wait.

    def _receive(self, timeout: float) -> list[dict[str, Any]]:
        ready, _, _ = select.select([self._replies], [], [], timeout)
        if not ready:
            return []
        *lines, self._buffer = (self._buffer + os.read(self._replies, 65536)).split(b"\n")
        return [json.loads(line) for line in lines]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.busy:
            self.signal_all(signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._replies >= 0:
            os.close(self._replies)
        self._replies = -1


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _gone() -> UserError:
    return UserError("the process that starts the runs ended; its message is above")
