"""What runs start from, published beside their records: so that a clone can go on from there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from retable.runs.published_records import parquet_file
from retable.runs.start_files import packed
from retable.util.atomic import write_atomic

if TYPE_CHECKING:
    from retable.training.start import Start

MAX_BYTES = 1_000_000
"""Of a file that is published."""

MAX_ALL_BYTES = 20_000_000
"""Of all files that are published with a table."""


def folder_of(name: str, protocol: str) -> Path:
    """Folder of what is published with a table's records for others to start from."""
    return parquet_file(name, protocol).with_suffix(".starts")


def file_of(name: str, protocol: str, key: str) -> Path:
    """File of one run in it."""
    return folder_of(name, protocol) / f"{key}.safetensors"


def write(name: str, protocol: str, found: Iterable[tuple[str, Start]]) -> list[str]:
    """Write what runs have left beside their published records; what is too large is left out.

    Args:
        name: of the table.
        protocol: of the table.
        found: keys of runs that others start from, with what these have left.

    Returns:
        Keys of the runs that were too large.
    """
    folder, kept, total, large = folder_of(name, protocol), set[Path](), 0, list[str]()
    for key, start in found:
        content = packed(start)
        if len(content) > MAX_BYTES or total + len(content) > MAX_ALL_BYTES:
            large.append(key)
            continue
        total += len(content)
        file = file_of(name, protocol, key)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
        kept.add(file)
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if file not in kept and file.suffix == ".safetensors":
                file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    return large
