"""Progress display of a sync: a live line on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

_PLAIN_EVERY_S = 10.0


class Uploads:
    """Runs that are done with, of how many.

    Args:
        total: runs that may have to be uploaded.
        say: prints a line on stderr.
    """

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self.console = Console(stderr=True)
        self.bar = Progress(console=self.console, transient=True)
        self._say, self._total, self._count = say, total, 0
        self._task = self.bar.add_task("uploading", total=total)
        self._last = time.monotonic()

    def __enter__(self) -> Uploads:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:  # it would print an empty line elsewhere
            self.bar.stop()

    def say(self, text: str) -> None:
        """A message that stays."""
        if self.console.is_terminal:
            self.console.print(text, markup=False, highlight=False)
        else:
            self._say(text)

    def ended(self) -> None:
        """One more run is done with."""
        self._count += 1
        self.bar.advance(self._task)
        if not self.console.is_terminal and time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self._say(f"{self._count} of {self._total} runs")
