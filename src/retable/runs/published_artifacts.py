"""Artefacts that a table's figure is drawn from, published beside the records."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from retable.runs import published_files
from retable.runs.published_files import MAX_ALL_BYTES, MAX_BYTES
from retable.runs.published_records import parquet_file


def folder_of(name: str, protocol: str) -> Path:
    """Folder of the artefacts that are published with a table's records."""
    return parquet_file(name, protocol).with_suffix(".artifacts")


def file_of(name: str, protocol: str, key: str, artifact: str) -> Path:
    """File of one run's artefact in it."""
    return folder_of(name, protocol) / _name(key, artifact)


def of_run(name: str, protocol: str, key: str) -> dict[str, bytes]:
    """What is published of a run's artefacts, as files, by name of the artefact."""
    files = sorted(folder_of(name, protocol).glob(f"{key}.*.safetensors"))
    return {file.name.split(".")[1]: file.read_bytes() for file in files}


def write(name: str, protocol: str, found: Iterable[tuple[str, str, bytes]]) -> list[str]:
    """Write artefacts beside their published records; what is too large is left out.

    Args:
        name: of the table.
        protocol: of the table.
        found: key of the run, name of the artefact, and its file.

    Returns:
        Keys of the runs whose artefact was too large.
    """
    files = ((_name(key, artifact), content) for key, artifact, content in found)
    large = published_files.write(folder_of(name, protocol), files, MAX_BYTES, MAX_ALL_BYTES)
    return sorted({file.split(".")[0] for file in large})


def _name(key: str, artifact: str) -> str:
    return f"{key}.{artifact}.safetensors"
