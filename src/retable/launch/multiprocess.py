"""A run in several processes: how they find each other, and how one's end is that of all.

The first one is the job itself. It alone has the lease and writes, and it announces the attempt in
a file of the attempt's folder. The others follow: in a job of a cluster each of them is a task of
its own, elsewhere the first one forks them. Why one of them ended before its time stands in a file
beside the announcement; without such a file it was lost, with the node that it was on.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.launch.error_messages import line_of
from retable.launch.process_setup import (
    end_with_parent,
    log_to,
    resolved_device,
    set_threads,
    without_gpus,
)
from retable.runs import frozen, starts
from retable.runs.attempts import identity_of
from retable.util.atomic import write_atomic
from retable.util.log import log

if TYPE_CHECKING:
    import threading
    from types import TracebackType

    from retable.training.checkpointing import Resume

ANNOUNCEMENT = "ranks.json"
FOLLOWED = "RETABLE_FOLLOWED"
"""Environment variable of a job whose other tasks follow; holds what they know it by."""

JOIN_S = 300.0
"""Longest time until all have begun: they may have to import everything first."""
END_S = 10.0
"""Longest time that the others have to end after the first one."""

_REASON_S = 5.0
_LOOK_S = 0.05


class Lost(Exception):
    """Another process of the run ended before its time."""


@dataclass(frozen=True)
class Announcement:
    """Announcement that the first process makes to the others.

    Attributes:
        nonce: of the job's start, so that nobody follows what is over.
        host: where the first process is.
        port: that it listens on.
        size: how many they are.
        resume: checkpoint that all go on from.
    """

    nonce: str
    host: str
    port: int
    size: int
    resume: str | None


def announced(attempt: Path, nonce: str) -> Announcement | None:
    """The announcement of an attempt; None where there is none yet, or an old one."""
    try:
        found = Announcement(**json.loads((attempt / ANNOUNCEMENT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.nonce == nonce else None


def leave_reason(attempt: Path, rank: int, text: str) -> None:
    """Say why a process of an attempt ended before its time."""
    with suppress(OSError):
        write_atomic(attempt / f"rank-{rank}.error", f"process {rank}: {text}")


class Leader:
    """The first process's side of a run; used as a context manager. Alone it does nothing.

    Args:
        attempt: the attempt's folder.
        size: how many processes do the run.
        should_stop: whether this process was asked to stop.
    """

    def __init__(self, attempt: Path, size: int, should_stop: Callable[[], bool]) -> None:
        self.attempt, self.size, self._asked = attempt, size, should_stop
        self._forked: dict[int, int] = {}

    def __enter__(self) -> Leader:
        self._nonce = os.environ.get(FOLLOWED) or secrets.token_hex(8)
        if self.size > 1 and FOLLOWED not in os.environ:
            # Now: neither CUDA nor threads of torch have been started.
            for rank in range(1, self.size):
                self._forked[self._fork(rank)] = rank
        return self

    def _fork(self, rank: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            end_with_parent(signal.SIGKILL)
            if os.getppid() == parent:
                code = follow(self.attempt, rank, self._nonce, self._asked, rank)
        finally:
            os._exit(code)

    def should_stop(self) -> bool:
        """Whether any of the processes was asked to stop; all have to ask at the same moment."""
        from retable.training import data_parallel

        return data_parallel.anywhere(self._asked())

    @contextmanager
    def together(self, resume: Resume | None, device: str) -> Generator[dict[str, Any]]:
        """Do the run with the others; gives options of the Trainer.

        Args:
            resume: checkpoint that all go on from.
            device: type of the devices.

        Raises:
            Lost: where another process failed.
            Interrupted: where one was lost, or ended while all were asked to stop.
        """
        if self.size == 1:
            yield {"devices": 1}
            return
        from retable.launch import process_group

        store = process_group.listen()
        path = None if resume is None else str(resume.path)
        said = Announcement(self._nonce, socket.gethostname(), store.port, self.size, path)
        write_atomic(self.attempt / ANNOUNCEMENT, json.dumps(asdict(said)))
        self._wait_for(store)
        try:
            with process_group.joined(0, self.size, store, device, 0) as trainer:
                yield trainer
        except Exception as error:
            if not process_group.is_of_connection(error):
                raise
            log(traceback.format_exc())
            raise self._why() from error

    def _wait_for(self, store: Any) -> None:
        from retable.training.execute import Interrupted

        end = time.monotonic() + JOIN_S
        while store.add("here", 0) < self.size - 1:
            if self._asked():
                raise Interrupted("stopped before it began")
            if reason := self._reason():
                raise Lost(reason)
            if time.monotonic() > end:
                raise Interrupted(f"not all of its {self.size} processes began in {JOIN_S:g} s")
            time.sleep(_LOOK_S)

    def _why(self) -> Exception:
        """Why another process does not answer."""
        from retable.training.execute import Interrupted

        if self._asked():
            return Interrupted("stopped within an epoch: another of its processes had ended")
        end = time.monotonic() + _REASON_S
        while time.monotonic() < end:
            if reason := self._reason():
                return Lost(reason)
            time.sleep(_LOOK_S)
        return Interrupted("another of its processes was lost")

    def _reason(self) -> str | None:
        """Why another process ended before its time, as far as it is known."""
        for pid, rank in list(self._forked.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._forked[pid]
                code = os.waitstatus_to_exitcode(status)
                if code < 0:
                    leave_reason(self.attempt, rank, killed_by(code))
        for path in sorted(self.attempt.glob("rank-*.error")):
            with suppress(OSError):
                return path.read_text(encoding="utf-8")
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end = time.monotonic() + (END_S if error is None else 1)
        while self._forked:
            for pid in list(self._forked):
                if time.monotonic() > end:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                elif not os.waitpid(pid, os.WNOHANG)[0]:
                    continue
                del self._forked[pid]
            time.sleep(0.01)


def killed_by(code: int) -> str:
    """Describe a negative exit code: the signal that killed the process."""
    name = signal.Signals(-code).name
    return f"killed by {name}{' (out of memory, or by someone)' if name == 'SIGKILL' else ''}"


def follow_as_told(part: dict[str, Any], stop: threading.Event) -> int:
    """:func:`follow` with arguments that came as JSON, and a log of its own."""
    attempt, rank = Path(part["attempt"]), int(part["rank"])
    with log_to(attempt / f"log-{rank}.txt"):
        return follow(attempt, rank, part["nonce"], stop.is_set, part["index"])


def follow(attempt: Path, rank: int, nonce: str, asked: Callable[[], bool], index: int) -> int:
    """Do the part of another process than the first in an attempt.

    Args:
        attempt: the attempt's folder.
        rank: number of this process.
        nonce: of the announcement that it waits for.
        asked: whether this process was asked to stop.
        index: of its own device among those that it sees.

    Returns:
        The exit code of the process.
    """
    from retable.launch import worker
    from retable.training import execute as runner

    try:
        _follow(attempt, rank, nonce, asked, index)
    except runner.Interrupted:
        return worker.Exit.INTERRUPTED
    except runner.Diverged:
        return worker.Exit.DIVERGED
    except Lost:  # the reason is another's to tell
        log(traceback.format_exc())
        return worker.Exit.FAILED
    except BaseException as error:
        log(traceback.format_exc())
        leave_reason(attempt, rank, line_of(error, attempt.parents[1]))
        return worker.Exit.FAILED
    return worker.Exit.DONE


def _follow(attempt: Path, rank: int, nonce: str, asked: Callable[[], bool], index: int) -> None:
    from retable.launch import process_group, worker
    from retable.training import data_parallel
    from retable.training import execute as runner

    end = time.monotonic() + JOIN_S
    while (said := announced(attempt, nonce)) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"{attempt}: was not announced in {JOIN_S:g} s")
        time.sleep(_LOOK_S)
    run = frozen.read(attempt.parents[1])
    worker.refuse_changed_code(run)
    set_threads(run.config.device.threads)
    device = resolved_device(run.config.device.accelerator)
    resume = _the_same(said.resume, identity_of(run, device))
    begins = starts.read_start(run)
    store = process_group.connect(said.host, said.port)
    store.add("here", 1)
    try:
        with process_group.joined(rank, said.size, store, device, index) as trainer:
            context = runner.Context(
                attempt,
                resume=resume,
                should_stop=lambda: data_parallel.anywhere(asked()),
                trainer=trainer,
                start=begins and begins[0],
            )
            with without_gpus(device):
                runner.execute(run.config.model_dump(mode="json"), context)
    except Exception as error:
        if process_group.is_of_connection(error):
            raise Lost(str(error)) from error
        raise


def _the_same(path: str | None, identity: dict[str, str]) -> Resume | None:
    """The checkpoint that the first process has chosen."""
    from retable.training.checkpointing import find_resume

    if path is None:
        return None
    resume = find_resume([Path(path).parents[1]], identity, log)
    if resume is None or str(resume.path) != path:
        raise ValueError(f"{path}: is not what this process finds there")
    return resume
