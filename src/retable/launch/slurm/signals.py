"""Signals that SLURM sends to a job. Imports nothing heavy: a job listens before all else."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

Why = Literal["terminated", "time limit"]
_MARGIN_S = 10.0
"""Kept of the time before the limit, for killing, writing and queueing again."""
_EARLY_S = 60.0
"""SLURM may send its signal earlier than asked for by so much."""


class TooEarly(BaseException):
    """The job was told to leave before any of its runs had begun."""


class Told:
    """Listens to SIGTERM (preempted, or cancelled) and SIGUSR2 (the time limit comes near).

    Args:
        signal_s: seconds before the time limit at which the job is to be told.

    Attributes:
        why: the first thing that the job was told; None: nothing yet.
        end: when SLURM will end the job, in seconds since 1970; infinite where it does not say.
    """

    def __init__(self, signal_s: float = math.inf) -> None:
        self.signal_s = signal_s
        self.why: Why | None = None
        self.end = _end_of_job()
        self._at = 0.0
        self._terminated_at: float | None = None
        self._raising = False

    def listen(self) -> None:
        """Take the signals, for this process."""
        signal.signal(signal.SIGTERM, lambda *_: self.tell("terminated"))
        signal.signal(signal.SIGUSR2, lambda *_: self.tell("time limit"))

    def tell(self, why: Why) -> None:
        """Handle a signal of SLURM."""
        now = time.time()
        if self.why is None:
            self.why, self._at = why, now
        if why == "terminated" and self._terminated_at is None:
            self._terminated_at = now
        if self._raising:
            self._raising = False
            raise TooEarly

    def look_at_clock(self) -> None:
        """Do as if SLURM had spoken where it should have: its signal may have come too early."""
        if self.why is None and time.time() > self.end - self.signal_s:
            self.tell("time limit")

    @contextmanager
    def raising(self) -> Generator[None]:
        """Raise :class:`TooEarly` at once, instead of being asked, where nothing would be lost."""
        self._raising = True
        try:
            if self.why is not None:
                raise TooEarly
            yield
        finally:
            self._raising = False

    def patience(self, grace_s: float) -> float:
        """When, in seconds since 1970, runs that have not ended their epoch are to be killed.

        Args:
            grace_s: seconds that they have after SIGTERM.
        """
        if self._terminated_at is not None:
            return self._terminated_at + grace_s
        margin = min(_MARGIN_S, self.signal_s / 2)
        if self.end - self._at <= self.signal_s + _EARLY_S:
            return max(self.end - margin, self._at)
        return self._at + self.signal_s - margin

    @property
    def may_requeue(self) -> bool:
        """Whether it is the job's own task to go back into the queue.

        SLURM sees to a preempted job itself, and nobody is to act on a cancelled one; both are
        told by SIGTERM, as is a job whose time is over.
        """
        early = self._terminated_at is not None and self._terminated_at < self.end - 1
        return self.why == "time limit" and not early


def _end_of_job() -> float:
    text = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(text) if text.isdecimal() else math.inf
