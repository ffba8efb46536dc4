"""Looking again and again, until nothing is queued or running any more."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from retable.launch.slurm.client import Unreachable

EVERY_S = 5.0
"""At least; where a look takes long, there is a longer pause after it."""

_SHARE = 5
"""A pause is so many times as long as the look before it."""


def watch(look: Callable[[], tuple[str, bool]]) -> None:
    """Show what a look finds: in place on a terminal, else a block each time.

    A controller that does not answer is asked again the next time, once it has answered at all.

    Args:
        look: returns what there is to show, and whether anything goes on.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    shown = ""
    begin = time.monotonic()
    shown, goes_on = look()
    if not console.is_terminal:
        print(shown, flush=True)
        while goes_on:
            begin = _pause(begin)
            shown, goes_on = _again(look, shown)
            print(f"\n{shown}", flush=True)
        return
    with Live(
        Text(shown), console=console, auto_refresh=False, vertical_overflow="ellipsis"
    ) as live:
        while goes_on:
            begin = _pause(begin)
            shown, goes_on = _again(look, shown)
            live.update(Text(shown), refresh=True)
        live.update(Text(""), refresh=True)
    print(shown, flush=True)  # all of it, however small the terminal is


def _pause(begin: float) -> float:
    spent = time.monotonic() - begin
    time.sleep(max(EVERY_S, _SHARE * spent))
    return time.monotonic()


def _again(look: Callable[[], tuple[str, bool]], before: str) -> tuple[str, bool]:
    try:
        return look()
    except Unreachable as error:
        print(f"warning: {error}", file=sys.stderr)
        return before, True
