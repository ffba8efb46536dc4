"""Content of a file of W&B's own, read with W&B's own reader: ``wandb leet inspect --json``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retable.tracking.wandb_run import environment

SUFFIX = ".wandb"


@dataclass(frozen=True)
class Segment:
    """Content of one ``.wandb`` file, as far as it can be read.

    Attributes:
        id: of the run; None where not even that was written.
        project: of the run.
        entity: of the run; empty for the default of whoever uploads it.
        tags: of the run.
        rows: history by step, in the order in which it was logged; without the library's own
            entries, whose names begin with an underscore.
        steps: of the rows.
        summary: as it was at the end.
        exit_code: that the run was closed with; None where it was not.
    """

    id: str | None = None
    project: str = ""
    entity: str = ""
    tags: list[str] = field(default_factory=list[str])
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    steps: list[int] = field(default_factory=list[int])
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    exit_code: int | None = None


def file_of(folder: Path) -> Path | None:
    """The ``.wandb`` file in a segment's folder; None where there is none."""
    return next(iter(sorted(folder.glob(f"*{SUFFIX}"))), None)


def read(file: Path) -> Segment:
    """Content of a ``.wandb`` file, as far as it can be read.

    That of a writer that was killed ends early: what W&B's service had not written yet is lost.
    """
    with tempfile.TemporaryDirectory() as scratch:  # the library's command leaves a log
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--json", str(file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**environment(), "WANDB_DIR": scratch},
            check=False,
        )
    return of_entries(_entries(done.stdout))


def of_entries(entries: Iterable[dict[str, Any]]) -> Segment:
    """Put together what the reader prints, one entry for each thing that W&B was told.

    Args:
        entries: each with its ``type`` and, under that name, its content.
    """
    run: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    steps: list[int] = []
    summary: dict[str, Any] = {}
    exit_code: int | None = None
    for entry in entries:
        content = entry.get(entry["type"], {})
        match entry["type"]:
            case "run":
                run |= content
            case "history":
                steps.append(int(content["item"]["_step"]))
                rows.append({k: v for k, v in content["item"].items() if k[0] != "_"})
            case "summary":
                summary |= content.get("update", {})
                for name in content.get("remove", []):
                    summary.pop(name, None)
            case "exit":
                exit_code = int(content.get("exit_code", 0))
            case _:
                pass
    return Segment(
        id=run.get("run_id"),
        project=run.get("project", ""),
        entity=run.get("entity", ""),
        tags=run.get("tags", []),
        rows=rows,
        steps=steps,
        summary={k: v for k, v in summary.items() if k[0] != "_"},
        exit_code=exit_code,
    )


def _entries(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
