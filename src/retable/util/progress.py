"""A line of progress on stderr, for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_QUIET_S = 2.0
_PLAIN_EVERY_S = 10.0
_LIVE_EVERY_S = 0.2
_CLEAR = "\r\x1b[K"


class Progress:
    """So much of a task is done: a live line on a terminal, else a line now and then.

    Nothing is shown of what is done within two seconds.

    Args:
        what: name of the task, such as ``reading records``.
        total: how many things there are to do.
    """

    def __init__(self, what: str = "", total: int = 0) -> None:
        self._what, self._total, self._done = what, total, 0
        self._next = time.monotonic() + _QUIET_S
        self._live = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear()

    def at(self, done: int) -> None:
        """So many things are done."""
        self._done = done
        now = time.monotonic()
        if now < self._next:
            return
        text = f"{self._what}: {done:,} of {self._total:,}"
        if self._live:
            print(f"{_CLEAR}{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
        self._shown = True
        self._next = now + (_LIVE_EVERY_S if self._live else _PLAIN_EVERY_S)

    def advance(self) -> None:
        """One more thing is done."""
        self.at(self._done + 1)

    def stage(self, what: str, done: int, total: int) -> None:
        """As :meth:`at`, where one task follows another."""
        self._what, self._total = what, total
        self.at(done)

    def say(self, text: str) -> None:
        """A message that stays."""
        self._clear()
        print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._shown and self._live:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
            self._shown = False
