"""State of the sync: one small file per uploaded run of W&B, below ``<runs>/_wandb/synced/``."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from retable.tracking import naming
from retable.util.atomic import write_atomic
from retable.wandb_tools.local_runs import Local


def remember(local: Local, where: str) -> None:
    """Remember that a run was uploaded.

    Args:
        local: as it was uploaded.
        where: server with its port, entity and project.
    """
    file = _file(local)
    file.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_atomic(file, json.dumps({**_mark(local, where), "at": now}, indent=1) + "\n")


def is_current(local: Local, where: str) -> bool:
    """Whether W&B was given just this. A broken file is none: uploading once more is harmless."""
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads(_file(local).read_text(encoding="utf-8"))
        return content.items() >= _mark(local, where).items()
    return False


def _mark(local: Local, where: str) -> dict[str, str | int]:
    return {
        "id": local.id,
        "where": where,
        "steps": len(local.epochs),
        "digest": local.digest(),
    }


def _file(local: Local) -> Path:
    return naming.folder(local.runs) / "synced" / f"{local.id}.json"
