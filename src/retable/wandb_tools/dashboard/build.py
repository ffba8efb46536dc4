"""A table's dashboard in W&B: written to a file, and published where there is a login.

Only :mod:`retable.wandb_tools.dashboard.spec` and :mod:`retable.wandb_tools.dashboard.publish`
import W&B's own libraries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retable.config.schema import LoggerConfig
from retable.report.site import labels
from retable.report.site.inputs import History, ShownTable
from retable.runs import records
from retable.runs.history import read_or_empty
from retable.runs.records import Record
from retable.tables.aggregate import Table
from retable.tables.grid import Grid
from retable.tracking import naming
from retable.util.atomic import write_atomic
from retable.util.errors import UserError
from retable.wandb_tools.dashboard.content import content_of

EXTRA = "dashboard"

Made = tuple[Any, Any]
"""Workspace and report, in the library's types."""


def check_installed() -> None:
    """Refuse where the library for dashboards is missing.

    Raises:
        UserError: with what to install.
    """
    if find_spec("wandb_workspaces") is None:
        raise UserError(
            f"wandb-workspaces is not installed; it comes with the extra '{EXTRA}': pip install"
            f" 'retable[{EXTRA}]', or uv sync --extra {EXTRA}"
        )


def place_of(entity: str | None, project: str | None) -> LoggerConfig:
    """Where a dashboard goes; runs go there too where nothing else is said.

    Raises:
        UserError: for a name that W&B does not take.
    """
    given = {"entity": entity} | ({"project": project} if project is not None else {})
    try:
        return LoggerConfig.model_validate({"name": "wandb", **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        raise UserError(f"--{first['loc'][0]} {first['input']!r}: {why}") from None


def checked_site(site: str | None) -> str | None:
    """The address of a site.

    Raises:
        UserError: where it cannot become a link.
    """
    if site is not None and labels.link(site) is None:
        raise UserError(f"--site {site!r}: expected an address such as https://example.org/tables")
    return site


def source_of(
    grid: Grid, table: Table, found: Mapping[str, Record], published: Mapping[str, str] | None
) -> ShownTable:
    """A table with what its runs have left.

    Args:
        grid: planned, with the choices that were made.
        table: judged.
        found: its records by key.
        published: histories as text by key; None: those of the runs here are read.
    """
    if published is None:
        return ShownTable(grid, table, found, _read_here(grid))
    return ShownTable(grid, table, found, lambda key: json.loads(published.get(key, "[]")))


def _read_here(grid: Grid) -> Callable[[str], History]:
    folders = grid.run_folders()

    def read(key: str) -> History:
        # The newest attempt that has any; the run may still be going on.
        for attempt in records.attempts(Path(folders[key], key)):
            if rows := read_or_empty(attempt):
                return rows
        return []

    return read


def file_of(runs: Path, table: str, protocol: str) -> Path:
    """Where the dashboard of a table is written."""
    paper, _, name = table.partition("/")
    return naming.folder(runs) / "dashboards" / paper / f"{name}-{protocol}.json"


def make(source: ShownTable, place: LoggerConfig, entity: str | None, site: str | None) -> Made:
    """Workspace and report of a table, in the library's types.

    Args:
        source: the table.
        place: where they go.
        entity: default one of the login.
        site: address of the site.
    """
    from retable.wandb_tools.dashboard import spec

    content = content_of(source, site)
    where = place.entity or entity or "", place.project
    return spec.workspace(content, *where), spec.report(content, *where)


def write(made: Made, file: Path) -> None:
    """Write workspace and report as the documents that W&B stores.

    Raises:
        UserError: where the file cannot be written.
    """
    from retable.wandb_tools.dashboard.spec import as_json

    text = json.dumps(as_json(*made), indent=1, ensure_ascii=False) + "\n"
    if file.is_dir():
        raise UserError(f"{file}: cannot be written (is a folder)")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, text)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None
