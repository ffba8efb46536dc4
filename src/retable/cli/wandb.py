"""Commands about runs in W&B: sync, pull, dashboard."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from retable.cli import wandb_dashboard, workflow
from retable.cli.options import STOPPED, Name, Protocol, say, table_names
from retable.util.errors import UserError

app = typer.Typer()
group = typer.Typer(
    help="Runs in W&B: upload, get records from there, dashboards. Example: retable wandb sync"
)
app.add_typer(group, name="wandb")

Entity = Annotated[
    str | None, typer.Option(help="user or team in W&B, instead of the runs' or the login's own")
]
Project = Annotated[str | None, typer.Option(help="project in W&B, instead of the runs' own")]


@group.command()
def sync(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="paper/table, or a paper for all its tables; all runs here where it is left out",
            autocompletion=table_names,
        ),
    ] = None,
    protocol: Protocol = "paper",
    workers: Annotated[int, typer.Option(min=1, help="uploads at once")] = 4,
    forget: Annotated[
        bool, typer.Option("--again", help="upload also what is remembered as done")
    ] = False,
    entity: Entity = None,
    project: Project = None,
) -> None:
    """Upload runs that W&B followed offline, or only in part.

    What is done is remembered, so it can be stopped and called again; --again asks the server about
    all runs, such as after one was deleted there. Every run is written from its own history and
    record, each step once, whatever was interrupted on the way. Exit code 1 where a run could not
    be uploaded.

    Example: retable wandb sync risk_parity/iterations
    """
    from retable.util import paths
    from retable.util.progress import Progress
    from retable.wandb_tools import api
    from retable.wandb_tools import sync as syncing

    _check(entity, project)
    if name is None:
        folders = list(paths.run_folders(paths.runs_folder()))
    else:
        folders = _folders(name, protocol)
    found = syncing.find(folders)
    for text in found.broken:
        say(f"cannot be read: {text}")
    for text in found.running:
        say(f"still running, left alone: {text}")
    if found.unfinished:
        say(f"{found.unfinished} without a record yet, left alone: killed before they had ended")
    if not found.locals:
        if found.broken or found.running or found.unfinished:
            say("nothing else to sync")
        else:
            say("nothing to sync: no run here that has ended was followed by W&B (logger=wandb)")
        raise typer.Exit(1 if found.broken else 0)
    target = syncing.Target(api.connect(say), entity, project)
    with Progress("uploaded", len(found.locals)) as shown:
        outcome = syncing.sync(
            found.locals,
            target,
            workers=workers,
            forget=forget,
            say=shown.say,
            ended=shown.advance,
        )
    for text in outcome.lacking:
        say(f"incomplete: {text}")
    for text in outcome.failed:
        say(f"not synced: {text}")
    typer.echo(outcome.text())
    if outcome.already:
        say("already: so it is remembered here; --again asks the server about those too")
    if outcome.unreachable:
        say(
            f"{outcome.left} left: the server cannot be reached; the same command goes on with them"
        )
    if outcome.stopped:
        say("stopped; the same command goes on with the rest")
        raise typer.Exit(STOPPED)
    raise typer.Exit(1 if outcome.failed or outcome.left or found.broken else 0)


@group.command()
def pull(
    name: Name,
    protocol: Protocol = "paper",
    entity: Entity = None,
    project: Annotated[str | None, typer.Option(help="project in W&B; retable if left out")] = None,
) -> None:
    """Get records of a table's runs that were made elsewhere.

    They come from the runs' summaries in W&B, and are checked: schema, key, history. Nothing here
    is overwritten. What is pulled is marked so beside every number.

    Example: retable wandb pull risk_parity/iterations --entity someone
    """
    from retable.wandb_tools import api
    from retable.wandb_tools import pull as pulling

    _check(entity, project)
    grids = _grids(name, protocol)
    server = api.connect(say, doing="pull")
    outcome = pulling.pull(
        [run for grid in grids for run in grid.runs()],
        server,
        entity=server.owner(entity),
        project=project or pulling.PROJECT,
        say=say,
    )
    typer.echo(outcome.text())
    raise typer.Exit(1 if outcome.refused else 0)


group.command("dashboard")(wandb_dashboard.dashboard)


def _check(entity: str | None, project: str | None) -> None:
    for option, value in (("--entity", entity), ("--project", project)):
        if value is not None and (not value or set(value) & set("/\\#?%: '\"$`;&|<>()")):
            apart = "; give entity and project apart" if "/" in value else ""
            raise UserError(f"{option} {value!r}: is not a name in W&B{apart}")


def _grids(name: str, protocol: str) -> list[Any]:

    return workflow.plan(name, protocol)


def _folders(name: str, protocol: str) -> list[Any]:
    """Folders of the runs of some tables; their tags are brought up to date."""
    from pathlib import Path

    from retable.tracking import tags
    from retable.util import paths
    from retable.wandb_tools.table_tags import tags_of

    grids = _grids(name, protocol)
    runs = paths.runs_folder()
    for grid in grids:
        try:
            tags.write(runs, grid.name, grid.protocol, tags_of(grid))
        except OSError as error:
            raise UserError(f"{runs}: cannot be written ({error.strerror})") from None
    found = {key: Path(base) / key for grid in grids for key, base in grid.run_folders().items()}
    return list(found.values())
