"""Launches on one machine wait for each other where one of them measures time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(cache: Path, *, alone: bool, say: Callable[[str], None]) -> Generator[None]:
    """Have this machine together with other launches, or alone.

    A lock that ends with the process that holds it. It is of one user's launches: what else the
    machine does, nobody here can hold back.

    Args:
        cache: folder that the launches of this machine share; others may share it too.
        alone: wait until no other launch does runs here, and keep others waiting.
        say: told of the wait.

    Raises:
        OSError: where nothing can be locked there.
    """
    cache.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache / f"turn-{socket.gethostname()}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            why = "has ended: what measures time runs alone" if alone else "has measured its times"
            say(f"waiting until another launch on this machine {why}")
            fcntl.flock(lock, kind)
        yield
    finally:
        os.close(lock)
