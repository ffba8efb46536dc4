"""Numbers of things and durations as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def counted(count: int, word: str) -> str:
    """A number of things: ``1 run``, ``3 runs``."""
    return f"{count} {word}{'' if count == 1 else 's'}"
