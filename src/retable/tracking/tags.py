"""Tables and cells of runs as tags. A run does not know its tables: who launches them writes this.

One small file per table and protocol below ``<runs>/_wandb/tags/<paper>/``, which whoever follows a
run reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from retable.tracking import naming
from retable.util.atomic import write_atomic

MAX_CHARACTERS = 64  # of W&B
MAX_CELLS = 20
"""Cells of one table that a run is tagged with; more would be a wall of tags."""


def shortened(text: str) -> str:
    """A tag of at most 64 characters, which stays distinct from others like it."""
    if len(text) <= MAX_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: MAX_CHARACTERS - 9]} {digest}"


def table_tag(table: str) -> str:
    """Tag of all runs of a table."""
    return shortened(table)


def cell_tag(table: str, row: str, column: str) -> str:
    """Tag of all runs of a cell."""
    return shortened(f"{table}: {row}, {column}")


def of_table(table: str, cells: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, list[str]]:
    """Tags by the runs' keys.

    Args:
        table: name of the table.
        cells: by the runs' keys, the (row, column) of the cells that the run stands behind.
    """
    return {
        key: [
            table_tag(table),
            *dict.fromkeys(cell_tag(table, *cell) for cell in places[:MAX_CELLS]),
        ]
        for key, places in cells.items()
    }


def write(runs: Path, table: str, protocol: str, tags: Mapping[str, Sequence[str]]) -> None:
    """Keep the tags of a table's runs, beside those that are there of other runs of it."""
    paper, _, name = table.partition("/")
    file = naming.folder(runs) / "tags" / paper / f"{name}-{protocol}.json"
    known = _read(file)
    merged = {**known, **{key: list(values) for key, values in tags.items()}}
    if merged == known:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(merged, indent=0, sort_keys=True) + "\n")


def read(runs: Path, paper: str, key: str) -> list[str]:
    """Tags of a run from all tables that it was launched for; none where nobody wrote any."""
    found: list[str] = []
    for file in sorted((naming.folder(runs) / "tags" / paper).glob("*.json")):
        found += _read(file).get(key, [])
    return list(dict.fromkeys(found))


def _read(file: Path) -> dict[str, list[str]]:
    # A broken file loses tags and nothing else.
    with suppress(OSError, ValueError, AttributeError, TypeError):
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): [str(tag) for tag in values] for key, values in content.items()}
    return {}
