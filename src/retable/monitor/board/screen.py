"""The board on a terminal until nothing goes on any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from retable.monitor.board.layout import board
from retable.monitor.board.view import Watcher
from retable.util.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

TICK_S = 1.0
"""Curves and times are shown anew so often, and files are looked at where that is cheap."""

ASKING_S = 5.0
"""A cluster is asked at most so often."""

SHARE = 40
"""A pause between looks is so many times the CPU time of a look, 2.5 % of a core at most."""

_ASKING_SHARE = 5
"""A pause between questions to a cluster is so many times as long as a look."""

QUIET_S = 15.0
"""Between two runs of a launch there is nothing for a moment; after so long it is over."""

WAITING = "nothing runs; waiting for a launch (Ctrl-C leaves)"


def once(watcher: Watcher, console: Console) -> None:
    """Print the board as it is now."""
    watcher.update()
    _print(console, _whole(watcher, console, ""))


def follow(watcher: Watcher, console: Console) -> None:
    """Show the board until nothing goes on any more, and leave the last one behind.

    Where nothing has begun and something is to do, it waits for that.

    Raises:
        UserError: where the first look finds a controller that does not answer, or a broken file.
    """
    from rich.live import Live

    last = _Last(watcher)
    try:
        with Live(
            console=console, screen=True, auto_refresh=False, vertical_overflow="crop"
        ) as live:
            while not last.over():
                live.update(_group(_fitting(watcher, console, last.message)), refresh=True)
                time.sleep(TICK_S)
                last.update_if_due()
    finally:
        said = "" if last.message == WAITING else last.message
        _print(console, _whole(watcher, console, said))


class _Last:
    """The last look: when the next is due, whether anything ever went on, since when nothing does.

    Looking takes a share of the time only, however long a look takes.
    """

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.message = ""
        self.begun = False
        self.next = 0.0
        self.quiet: float | None = None
        self.still = 0
        self.update()

    def over(self) -> bool:
        """Whether nothing goes on and nothing will by itself."""
        if self.watcher.goes_on:
            return False
        if not self.watcher.unfinished:
            self.message = ""
            return self.still > 1  # the first may have made a choice, and with it more to do
        if not self.begun or self.quiet is None or time.monotonic() - self.quiet < QUIET_S:
            return False
        self.message = f"nothing has run for {QUIET_S:.0f} s, and runs are left to do"
        return True

    def update_if_due(self) -> None:
        """Look again where that is due; what cannot be asked now is asked again the next time."""
        if time.monotonic() >= self.next:
            try:
                self.update()
            except UserError as error:
                self.message = f"{error}; looking again"

    def update(self) -> None:
        """Look, see whether anything goes on, and set when to look again."""
        begin, spent = time.monotonic(), time.process_time()
        try:
            self.watcher.update()
        finally:
            end = time.monotonic()
            pause = SHARE * (time.process_time() - spent)
            if self.watcher.asks:
                pause = max(pause, ASKING_S, _ASKING_SHARE * (end - begin))
            self.next = end + pause
        self.still = 0 if self.watcher.goes_on else self.still + 1
        if self.watcher.goes_on:
            self.begun, self.quiet = True, None
        elif self.quiet is None:
            self.quiet = begin
        self.message = "" if self.begun else WAITING


def _whole(watcher: Watcher, console: Console, message: str) -> list[Text]:
    return board(watcher.views(), console.width, message=message, notes=watcher.notes)


def _fitting(watcher: Watcher, console: Console, message: str) -> list[Text]:
    width, height = console.size
    return board(watcher.views(), width, height, message=message, notes=watcher.notes)


def _group(lines: Sequence[Text]) -> Text:
    from rich.text import Text

    return Text("\n").join(lines)


def _print(console: Console, lines: Sequence[Text]) -> None:
    for line in lines:
        line.rstrip()
        console.print(line, no_wrap=True, overflow="ignore", crop=False, highlight=False)
