"""One line for people about what ended a run, with what to do about it where that is known."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

_FULL = {
    errno.ENOSPC: "free some",
    errno.EDQUOT: "free some",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
}
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def line_of(error: BaseException, folder: Path) -> str:
    """Describe what ended a run.

    Args:
        error: what was raised; what it was raised from is looked at too, because torch, asked to
            write to a full disk, speaks of an unexpected position in its archive.
        folder: the run's.
    """
    error = _cleaned_up_after(error)
    for cause in _chain(error):
        if isinstance(cause, OSError) and (text := _of_files(cause, folder)):
            return f"{text} and run it again"
        if _is_memory(cause):
            lines = str(cause).splitlines()
            said = f"{type(cause).__name__}{f': {lines[0]}' if lines else ''}"
            return f"out of memory ({said}); fewer runs at once (launcher.workers) need less"
        if _is_lost_loader(cause):
            return f"{type(cause).__name__}: {cause}".strip()
    return _of_config(error) or f"{type(error).__name__}: {error}".strip()


def _of_config(error: BaseException) -> str | None:
    """A value that a class of the config refuses: Hydra says on its first line where, not why."""
    cause = error.__cause__
    if type(error).__name__ != "InstantiationException" or cause is None:
        return None
    target = re.search(r"target '([\w.]+)'", str(error))
    where = f"{target[1].rpartition('.')[2]}: " if target else ""
    return f"{where}{type(cause).__name__}: {cause}".strip()


def _of_files(error: OSError, folder: Path) -> str | None:
    if error.errno is None:
        return None
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
    said = f"{where}: {os.strerror(error.errno)}"
    if error.errno in _FULL:
        return f"{said}; {_FULL[error.errno]}"
    if not where.is_relative_to(folder):
        return None
    if error.errno in _READ_ONLY:
        return f"{said}; make it writable"
    if error.errno == errno.ENOENT:
        gone = where if folder.exists() else folder
        return f"{gone}: vanished while the run was going on; leave it in place"
    return None


def _is_memory(error: BaseException) -> bool:
    # torch has no class of its own for what the CPU's allocator says.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "allocate memory" in str(error)
    )


def _is_lost_loader(error: BaseException) -> bool:
    # torch raises this from a signal handler: whatever the main thread was at, it may fail in turn
    # (a thread about to start, with a KeyError that names nothing).
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def _cleaned_up_after(error: BaseException) -> BaseException:
    """First error, where Lightning failed once more while it cleaned up after that one."""
    while error.__context__ is not None and any(
        frame.f_code.co_name == "_teardown" for frame, _ in traceback.walk_tb(error.__traceback__)
    ):
        error = error.__context__
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
