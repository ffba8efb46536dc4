"""The one exception for what a user can mend, and the search for what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_MESSAGE = 560


class UserError(Exception):
    """A mistake in what the user gave; shown as one line, exit code 2, no traceback."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """A message as a terminal may show it: one line, not endless, nothing that steers it.

    What a message quotes may come from a file that somebody else wrote.
    """
    line = _printable(" ".join(text.split()))
    # The end has the hint and the place, so a long message loses its middle.
    return line if len(line) <= _MAX_MESSAGE else f"{line[:300]} … {line[-240:]}"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_text(value: str) -> bool:
    """Whether a text can be written: without the halves of characters that escapes can give."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def brief(text: str, limit: int = 120) -> str:
    """A text in a message: one line, shortened where it is long."""
    line = _printable(" ".join(text[: 100 * limit].split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def nearest(word: str, choices: Iterable[str]) -> str:
    """Say which of ``choices`` was probably meant.

    Returns:
        ``"; did you mean 'x'?"``, or the whole list where nothing is close and it is short.
    """
    options = sorted(set(choices))
    close = difflib.get_close_matches(word[:100], options, n=1, cutoff=0.5)
    close = close or difflib.get_close_matches(word[:100].lower(), options, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    if options and len(options) <= 15:
        return f"; valid: {', '.join(options)}"
    return ""
