"""State of the sync: one small file per uploaded run of W&B, below ``<runs>/_wandb/synced/``."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retable.tracking import naming
from retable.util.atomic import write_atomic
from retable.wandb_tools.local_runs import Local


@dataclass(frozen=True)
class Synced:
    """Mark of an uploaded run: where it is, and a digest of what W&B was given.

    Attributes:
        id: in W&B.
        where: server with its port, entity and project.
        steps: how many.
        digest: of history, record and tags; see
            :meth:`retable.wandb_tools.local_runs.Local.digest`.
        at: time of the upload.
    """

    id: str
    where: str
    steps: int
    digest: str
    at: str = ""

    def write(self, runs: Path) -> None:
        """Remember it."""
        file = _file(runs, self.id)
        file.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomic(file, json.dumps({**asdict(self), "at": now}, indent=1) + "\n")


def of(local: Local, where: str) -> Synced:
    """Mark that is kept of a run once it is uploaded."""
    return Synced(local.id, where, len(local.epochs), local.digest())


def is_current(runs: Path, wanted: Synced) -> bool:
    """Whether W&B has been given just this. A broken file is none: uploading again is harmless."""
    with suppress(OSError, ValueError, TypeError):
        content: dict[str, Any] = json.loads(_file(runs, wanted.id).read_text(encoding="utf-8"))
        return replace(Synced(**content), at="") == wanted
    return False


def _file(runs: Path, identifier: str) -> Path:
    return naming.folder(runs) / "synced" / f"{identifier}.json"
