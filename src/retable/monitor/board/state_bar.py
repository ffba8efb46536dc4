"""States of runs as a small bar: a block per run, or as many as fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.text import Text

from retable.monitor.state import State

LOOK: dict[State, tuple[str, str]] = {
    State.DONE: ("█", "green"),
    State.STALE: ("▓", "magenta"),
    State.RUNNING: ("▒", "yellow"),
    State.QUEUED: ("░", "blue"),
    State.FAILED: ("×", "bold red"),
    State.LOST: ("×", "bold red"),
    State.DIVERGED: ("×", "bold red"),
    State.CANCELLED: ("-", "dim"),
    State.BLOCKED: ("!", "yellow"),
    State.TODO: ("·", "dim"),
}
"""Block and style of every state, in the order in which a bar has them."""


def bar(counts: Mapping[State, int], width: int) -> Text:
    """A bar of at most ``width`` columns; every state that there is has one where it can."""
    states = list(LOOK)
    text = Text()
    for state, n in zip(states, shares([counts.get(s, 0) for s in states], width), strict=True):
        glyph, style = LOOK[state]
        text.append(glyph * n, style)
    return text


def shares(counts: Sequence[int], width: int) -> list[int]:
    """Divide a width in proportion to some numbers; as it is where their sum fits.

    None that is not 0 gets nothing, as long as there is room for one of each; the first come first.
    """
    total = sum(counts)
    if total <= width:
        return list(counts)
    out = [min(n, 1) for n in counts]
    for i in reversed(range(len(out))):
        if sum(out) > width:
            out[i] = 0
    while sum(out) < width:  # to the one that is furthest below its share
        out[max(range(len(out)), key=lambda i: counts[i] * width / total - out[i])] += 1
    return out


def legend(counts: Counter[State]) -> Text:
    """The states that there are, with their blocks: ``█ 3 done  ▒ 2 running``."""
    text = Text()
    for state, (glyph, style) in LOOK.items():
        if counts[state]:
            text.append("  " if text else "")
            text.append(glyph, style)
            text.append(f" {counts[state]} {state}")
    return text
