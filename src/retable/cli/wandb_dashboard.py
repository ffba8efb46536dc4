"""`retable wandb dashboard`: a workspace and a report of a table in W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retable.cli import workflow
from retable.cli.options import Name, Origin, Protocol, one_of, say
from retable.util import paths
from retable.util.errors import UserError


def dashboard(
    name: Name,
    protocol: Protocol = "paper",
    entity: Annotated[
        str | None, typer.Option(help="user or team in W&B; the login's own if left out")
    ] = None,
    project: Annotated[str | None, typer.Option(help="project in W&B; retable if left out")] = None,
    site: Annotated[
        str | None, typer.Option(metavar="URL", help="where the site can be read, to link to it")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write it there, publish nothing")
    ] = None,
    source: Origin = "runs",
) -> None:
    """Workspace and report of a table in W&B: curves by row, the table, its reported values.

    Without a login they are written to a file. Done again, what is published is brought up to date.

    Example: retable wandb dashboard risk_parity/iterations --project sweeps
    """
    from retable.runs import published_records
    from retable.wandb_tools.dashboard import build as made

    made.check_installed()
    one_of("--from", source, workflow.SOURCES)
    place, site = made.place_of(entity, project), made.checked_site(site)
    grids = workflow.plan(name, protocol, source=source)
    if out is not None and len(grids) > 1:
        names = ", ".join(grid.name for grid in grids)
        raise UserError(f"--out: {name} has {len(grids)} tables; name one: {names}")
    collected = workflow.collect(grids, source)
    tables = workflow.judge(name, [one.table for one in collected])
    found = None if out is not None else _login(place.entity)
    default = None if found is None else found
    for one, table in zip(collected, tables, strict=True):
        grid, histories = one.grid, None
        if source == "results":
            file = published_records.parquet_file(grid.name, protocol)
            histories = published_records.histories(file) if file.is_file() else {}
        parts = made.make(made.source_of(grid, table, one.records, histories), place, default, site)
        spec = out or made.file_of(paths.runs_folder(), grid.name, protocol)
        made.write(parts, spec)
        typer.echo(f"{spec}")
        if default is not None:
            from retable.wandb_tools.dashboard.publish import publish

            for address in publish(*parts, spec.with_suffix(".published.json"), say):
                typer.echo(address)


def _login(entity: str | None) -> str | None:
    """Whom the login publishes as; None, said with its reason, where nothing can be published."""
    from retable.tracking.wandb_mode import Inquiry

    found = Inquiry(online=False).answer()
    reason = found.missing
    if reason is None and found.set_to != "online":
        reason = f"W&B's own settings say '{found.set_to}'"
    elif reason is None and not found.login:
        reason = f"there is no login for {found.host}"
    elif reason is None and not found.reachable:
        reason = f"{found.host} cannot be reached"
    if reason is not None:
        say(f"W&B: {reason}, so nothing is published")
        return None
    if entity is None and found.entity is None:
        raise UserError(f"--entity: {found.host} does not say whom the login is of; give it")
    return entity or found.entity
