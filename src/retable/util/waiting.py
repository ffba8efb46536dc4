"""A line on stderr for what takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_QUIET_S = 2.0
_PLAIN_EVERY_S = 10.0


class Waiting:
    """How far something is: a live line on a terminal, else a line now and then.

    Nothing is shown of what is done within two seconds.
    """

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.next = time.monotonic() + _QUIET_S
        self.live = sys.stderr.isatty()
        self.shown = False

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.shown and self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def at(self, done: int) -> None:
        """So much of it is done."""
        now = time.monotonic()
        if now < self.next:
            return
        text = f"{self.what}: {done:,} of {self.total:,}"
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
        self.shown = True
        self.next = now + (0.2 if self.live else _PLAIN_EVERY_S)
