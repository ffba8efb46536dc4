"""The job's side of a follower: start it, poke it, and at the end wait for it, for so long.

Nothing that goes wrong here can hurt the run: it costs a line in the attempt's log. The follower
shares nothing with the run but a pipe that never blocks, and the attempt's files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from retable.runs.attempts import Attempt
from retable.tracking import follower, naming, run_payload
from retable.tracking.wandb_run import environment
from retable.util.log import log
from retable.util.redact import scrub

LOG = "wandb.log"
HURRY_S = 3.0
"""Longest wait of a job that was told to stop."""

_LOOK_S = 0.02
# What is sent to all processes of a job is meant for the run.
_DEAF_TO = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class Tracker:
    """The follower of an attempt, used as a context manager; without W&B it does nothing.

    Args:
        attempt: that is followed.
        in_a_hurry: whether the job was told to stop, so that it has little time.
    """

    def __init__(self, attempt: Attempt, in_a_hurry: Callable[[], bool]) -> None:
        self._attempt, self._in_a_hurry = attempt, in_a_hurry
        self._logger = attempt.run.config.logger
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Tracker:
        return self

    def start(self, resumed: Path | None) -> None:
        """Start the follower.

        Args:
            resumed: folder of the attempt that this one goes on from; None where it starts anew.
        """
        if self._logger.name != "wandb":
            return
        try:
            self._process = _started(self._attempt.folder)
            self._say(self._orders(resumed).line())
        except Exception as error:
            self._give_up(f"could not be started ({type(error).__name__}: {error})")

    def epoch(self) -> None:
        """There are new rows in the history."""
        self._say(f"{follower.EPOCH}\n")

    def ended(self) -> None:
        """The attempt has its record, if it can have one: wait until W&B has it too."""
        process = self._process
        if process is None:
            return
        self._process = None
        try:
            with suppress(OSError):  # it has ended
                self._write(process, f"{follower.ENDED}\n")
            assert process.stdin is not None
            process.stdin.close()
            self._wait(process)
        except Exception as error:
            _kill(process)
            _log(f"{type(error).__name__}: {error}")

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        begin, hurried = time.monotonic(), None
        while process.poll() is None:
            now = time.monotonic()
            if hurried is None and self._in_a_hurry():
                hurried = now
            if now - begin > self._logger.wait_s or now - (hurried or now) > HURRY_S:
                _kill(process)
                _log(f"was not ready {now - begin:.1f} s after the run, and was ended")
                return
            time.sleep(_LOOK_S)
        if process.returncode:
            _log(f"ended with exit code {process.returncode}; {LOG} says why")

    def _orders(self, resumed: Path | None) -> follower.Orders:
        run = self._attempt.run
        return follower.Orders(
            mode=self._logger.mode,
            resumed=None if resumed is None else str(resumed),
            limit_s=self._logger.wait_s,
            key=run.key,
            fingerprint=run.fingerprint,
            paper=run.config.paper,
            opening=run_payload.opening_of(run, self._attempt.launched.provenance),
        )

    def _say(self, text: str) -> None:
        if self._process is None:
            return
        try:
            self._write(self._process, text)
        except OSError as error:
            self._give_up(f"is gone ({error.strerror}); {LOG} says why")

    def _write(self, process: subprocess.Popen[bytes], text: str) -> None:
        assert process.stdin is not None
        data = text.encode()
        try:
            if os.write(process.stdin.fileno(), data) != len(data):
                raise OSError(None, "does not read")
        except BlockingIOError:
            pass  # it has enough to look at already

    def _give_up(self, why: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
        _log(why)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended()


def _log(text: str) -> None:
    log(f"W&B: the follower {scrub(text)}; the run does not need it, 'retable wandb sync' helps")


def _started(attempt: Path) -> subprocess.Popen[bytes]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF_TO)
    try:
        with (attempt / LOG).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", follower.__name__, str(attempt)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment(naming.folder(attempt.parents[3])),
                start_new_session=True,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a follower now, and W&B's service with it."""
    if process.poll() is not None:
        return
    with suppress(OSError):
        os.kill(process.pid, signal.SIGSTOP)  # so that it does not begin anything else
        follower.kill_children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    with suppress(Exception):
        assert process.stdin is not None
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
