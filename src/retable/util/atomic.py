"""Durable, atomic writing of files: made under another name beside them, then put in place."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: Path) -> Generator[Path]:
    """Name beside a file or folder, for what is to take its place within the block.

    What still has that name afterwards is removed, whatever ended the block.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, whole."""
    data = content.encode() if isinstance(content, str) else content
    with beside(path) as temporary:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
