"""Where a table's records are published, and the small files in a folder beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from retable.util import paths
from retable.util.atomic import write_atomic

MAX_BYTES = 1_000_000
"""Of a file that is published."""

MAX_ALL_BYTES = 8_000_000
"""Of all files of one folder."""


def parquet_file(name: str, protocol: str) -> Path:
    """File of a table's records; protocols other than ``paper`` have their own."""
    stem = name if protocol == "paper" else f"{name}-{protocol}"
    return paths.results_dir() / f"{stem}.parquet"


def write(folder: Path, found: Iterable[tuple[str, bytes]], most: int, in_all: int) -> set[str]:
    """Make a folder hold some files and no other ``.safetensors``; without any it goes.

    Args:
        folder: to be written.
        found: names of the files with their content.
        most: bytes of a file; a larger one is left out.
        in_all: bytes of all files; one that would be too much is left out.

    Returns:
        Names of the files that were left out.
    """
    kept, total, large = set[Path](), 0, set[str]()
    for name, content in found:
        if len(content) > most or total + len(content) > in_all:
            large.add(name)
            continue
        total += len(content)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, content)
        kept.add(folder / name)
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if file not in kept and file.suffix == ".safetensors":
                file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    return large
