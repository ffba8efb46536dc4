"""Messages of a process about itself, for whoever reads its log."""

from __future__ import annotations

import sys
from contextlib import suppress


def log(text: str) -> None:
    """A line on stderr; a full disk loses it and nothing else."""
    with suppress(OSError):
        print(text, file=sys.stderr)
