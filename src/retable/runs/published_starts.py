"""What runs start from, published beside their records: so that a clone can go on from there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from retable.runs import published_files
from retable.runs.published_files import MAX_ALL_BYTES, MAX_BYTES
from retable.runs.published_records import parquet_file
from retable.runs.start_files import packed

if TYPE_CHECKING:
    from retable.training.start import Start


def folder_of(name: str, protocol: str) -> Path:
    """Folder of what is published with a table's records for others to start from."""
    return parquet_file(name, protocol).with_suffix(".starts")


def file_of(name: str, protocol: str, key: str) -> Path:
    """File of one run in it."""
    return folder_of(name, protocol) / _name(key)


def write(name: str, protocol: str, found: Iterable[tuple[str, Start]]) -> list[str]:
    """Write what runs have left beside their published records; what is too large is left out.

    Args:
        name: of the table.
        protocol: of the table.
        found: keys of runs that others start from, with what these have left.

    Returns:
        Keys of the runs that were too large.
    """
    files = ((_name(key), packed(start)) for key, start in found)
    large = published_files.write(folder_of(name, protocol), files, MAX_BYTES, MAX_ALL_BYTES)
    return sorted(file.split(".")[0] for file in large)


def _name(key: str) -> str:
    return f"{key}.safetensors"
