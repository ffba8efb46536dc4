"""Progress display of a launch: a live line on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from retable.util import eta
from retable.util.text import duration

if TYPE_CHECKING:
    from retable.launch.summary import Summary

_PLAIN_EVERY_S = 10.0
_TELLING = 10
"""Runs that have ended before a time left is told; of few runs a tenth."""


class Progress:
    """Runs done, failed and to do, what is running, and the time left."""

    def __init__(self, total: int, *, shown: bool = True) -> None:
        from rich.console import Console
        from rich.live import Live

        self.total = total
        self.ended = 0
        self.shown = shown
        self.console = Console(stderr=True)
        self.begin = time.monotonic()
        self.going = False
        self.last = self.begin
        self.live = Live("", console=self.console, refresh_per_second=4, transient=True)
        self.interactive = shown and self.console.is_terminal

    def __enter__(self) -> Progress:
        if self.interactive:
            self.live.start()
            self.live.update(f"starting {self.total} runs")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.interactive:
            self.live.stop()

    def finished(self) -> None:
        """One more run has come to its end."""
        self.ended += 1

    def say(self, text: str) -> None:
        """A message that stays."""
        if self.interactive:
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def line(self, summary: Summary, waiting: int = 0) -> str:
        """State of the launch in one line."""
        left = self.total - self.ended
        parts = [f"{summary.done + summary.elsewhere} done", f"{left} to do"]
        if summary.failed:
            parts.insert(1, f"{len(summary.failed)} failed")
        if summary.blocked:
            parts.insert(1, f"{len(summary.blocked)} blocked")
        if summary.diverged:
            parts.insert(1, f"{summary.diverged} diverged")
        if waiting:
            parts.append(f"{waiting} held by another runner")
        # It is told of no settings: all runs are of one, and one of them ends every so often. The
        # first ones say little of the others, which may be a hundred times as short.
        known = self.ended >= min(_TELLING, self.total / 10)
        every = [(time.monotonic() - self.begin) / self.ended] if self.ended and known else []
        if rest := eta.left({"": every}, {"": left}, at_once=1):
            parts.append(f"about {duration(rest)} left")
        return " · ".join(parts)

    def update(self, summary: Summary, running: list[str], waiting: int) -> None:
        """Show the present state."""
        if not self.shown:
            return
        if running and not self.going:  # loading torch is no run's time
            self.going, self.begin = True, time.monotonic()
        if self.interactive:
            from rich.text import Text

            names = ", ".join(running[:3]) + (" ..." if len(running) > 3 else "")
            self.live.update(Text(f"{self.line(summary, waiting)}  [{names}]", overflow="ellipsis"))
        elif time.monotonic() - self.last >= _PLAIN_EVERY_S:
            self.last = time.monotonic()
            print(self.line(summary, waiting), file=sys.stderr, flush=True)
