"""The command that frees disk space."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retable.cli.options import Json, print_json, warn
from retable.util import paths

if TYPE_CHECKING:
    from retable.admin.clean import Freed, Plan

app = typer.Typer()
_NAMED = 3
"""Files or folders named one by one in each category; --json names all."""


@app.command()
def clean(
    only: Annotated[
        list[str] | None,
        typer.Option(help="checkpoints, attempts, snapshots, caches, leftovers, data; comma"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    runs: Annotated[Path | None, typer.Option(help="folder of all runs")] = None,
    as_json: Json = False,
) -> None:
    """Free disk space: shows what nothing needs any more, and asks.

    Decoded data goes only with --only data. With --json it never asks.

    Example: retable clean --only checkpoints,snapshots
    """
    from retable.admin import clean as cleaning

    chosen = cleaning.parse_only(only or [])
    plan = cleaning.survey(runs or paths.runs_folder(), paths.cache_folder(), chosen)
    if not as_json:
        typer.echo(_plan_text(plan))
    freed = None
    if plan.items and (yes or (not as_json and _agreed(plan))):
        freed = cleaning.remove(plan)
        for text in [*freed.skipped, *freed.failed]:
            warn(text)
    if as_json:
        print_json(_plan_json(plan, freed))
    elif freed is not None:
        typer.echo(f"freed {size_text(freed.size)} ({freed.count} of {len(plan.items)})")
    elif plan.items:
        typer.echo("nothing removed" + ("" if sys.stdin.isatty() else "; say --yes"))
    raise typer.Exit(1 if freed is not None and freed.failed else 0)


def _agreed(plan: Plan) -> bool:
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"free {size_text(plan.size)}?", default=False)


def size_text(size: int) -> str:
    """Bytes as people say them: ``12 B``, ``3.4 kB``, ``1.2 GB``."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def _plan_text(plan: Plan) -> str:
    from retable.admin.clean import CATEGORIES

    lines = [f"runs: {plan.runs}", f"cache: {plan.cache}", *plan.notes]
    for category in (name for name in CATEGORIES if name in plan.only):
        items = plan.of(category)
        if not items:
            continue
        size = size_text(sum(item.size for item in items))
        lines.append(f"{category:12}{len(items):6}  {size:>9}  {CATEGORIES[category]}")
        lines += [
            f"    {_shown(item.path, plan)}  {size_text(item.size)}" for item in items[:_NAMED]
        ]
        if len(items) > _NAMED:
            lines.append(f"    and {len(items) - _NAMED} more")
    if not plan.items:
        lines.append("nothing to free")
    return "\n".join(lines)


def _shown(path: Path, plan: Plan) -> str:
    """A path below its folder, keys and digests shortened."""
    base = next((b for b in (plan.runs, plan.cache) if path.is_relative_to(b)), None)
    text = str(path.relative_to(base) if base is not None else path)
    return re.sub(r"[0-9a-f]{64}", lambda found: found[0][:12], text)


def _plan_json(plan: Plan, freed: Freed | None) -> dict[str, Any]:
    from retable.admin.clean import CATEGORIES

    return {
        "runs": str(plan.runs),
        "cache": str(plan.cache),
        "notes": plan.notes,
        "bytes": plan.size,
        "categories": [
            {
                "category": category,
                "what": CATEGORIES[category],
                "count": len(plan.of(category)),
                "bytes": sum(item.size for item in plan.of(category)),
                "items": [{"path": str(i.path), "bytes": i.size} for i in plan.of(category)],
            }
            for category in CATEGORIES
            if category in plan.only
        ],
        "removed": freed is not None,
        "freed": None if freed is None else {"bytes": freed.size, "count": freed.count},
        "skipped": [] if freed is None else freed.skipped,
        "failed": [] if freed is None else freed.failed,
    }
