"""The one exception for what a user can mend, and the search for what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; shown as one line, exit code 2, no traceback."""


def brief(text: str, limit: int = 120) -> str:
    """A text in a message: one line, shortened where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def nearest(word: str, choices: Iterable[str]) -> str:
    """Say which of ``choices`` was probably meant.

    Returns:
        ``"; did you mean 'x'?"``, or the whole list where nothing is close and it is short.
    """
    options = sorted(set(choices))
    close = difflib.get_close_matches(word[:100], options, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    if options and len(options) <= 12:
        return f"; valid: {', '.join(options)}"
    return ""
