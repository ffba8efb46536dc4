"""Publish a dashboard, and bring it up to date where it is published already."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws

from retable.util.atomic import write_atomic
from retable.util.errors import UserError, brief
from retable.util.redact import scrub


def publish(
    made: ws.Workspace, told: wr.Report, memory: Path, say: Callable[[str], None]
) -> list[str]:
    """Save workspace and report; those that were saved before are brought up to date.

    Args:
        made: the workspace.
        told: the report.
        memory: file with the addresses of what was published, which this adds to.
        say: told where something that was published is gone, and is made anew.

    Returns:
        Addresses of report and workspace.

    Raises:
        UserError: where W&B does not take them.
    """
    place = f"{made.entity}/{made.project}"
    known = _read(memory)
    before = known.get(place, {})
    addresses: dict[str, str] = {}
    try:
        # The report first: with it the library makes the project where there is none.
        old = _load(wr.Report.from_url, before.get("report"), say)
        if old is not None:
            old.title, old.description = told.title, told.description
            old.blocks, old.width = told.blocks, told.width
        addresses["report"] = str((old or told).save().url)
        _remember(memory, {**known, place: {**before, **addresses}}, say)
        old = _load(ws.Workspace.from_url, before.get("workspace"), say)
        if old is not None:
            old.name, old.sections = made.name, made.sections
            old.settings, old.runset_settings = made.settings, made.runset_settings
        addresses["workspace"] = str((old or made).save().url)
    except Exception as error:  # the library raises whatever its server makes it
        text = brief(scrub(f"{type(error).__name__}: {error}"), 300)
        raise UserError(f"W&B, {place}: not published: {text}") from None
    _remember(memory, {**known, place: addresses}, say)
    return list(addresses.values())


def _load(load: Callable[[str], Any], address: str | None, say: Callable[[str], None]) -> Any:
    """Load what was published; None where it was not, or is gone."""
    if address is None:
        return None
    try:
        return load(address)
    # So the library says that there is no such thing, or that it cannot read what is there.
    except (ValueError, TypeError, KeyError, AttributeError):
        say(f"{address}: is gone or cannot be read, so a new one is made")
        return None


def _read(memory: Path) -> dict[str, dict[str, str]]:
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads(memory.read_text(encoding="utf-8"))
        return {str(place): dict(addresses) for place, addresses in content.items()}
    return {}


def _remember(memory: Path, content: dict[str, dict[str, str]], say: Callable[[str], None]) -> None:
    try:
        write_atomic(memory, json.dumps(content, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        say(f"{memory}: cannot be written ({error.strerror}); the next time makes new ones")
