"""The command that brings stale records up to the present code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from retable.cli.named_runs import runs_named
from retable.cli.options import STOPPED, Columns, Rows, say, table_names
from retable.util import paths
from retable.util.errors import UserError
from retable.util.text import on_table

if TYPE_CHECKING:
    from retable.launch.stale import RefreshPlan
    from retable.runs.frozen import FrozenRun

app = typer.Typer()


def _names(incomplete: str) -> list[str]:
    experiments = paths.config_names("experiment")
    return [*table_names(incomplete), *(n for n in experiments if n.startswith(incomplete))]


@app.command()
def refresh(
    name: Annotated[
        str,
        typer.Argument(help="paper/table, paper, experiment, or a run", autocompletion=_names),
    ],
    protocol: Annotated[
        str | None, typer.Option(help="of tables: only this one, else all that have records")
    ] = None,
    row: Rows = None,
    column: Columns = None,
    redo: Annotated[
        bool, typer.Option("--again", help="do all runs again of settings that came out otherwise")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be run and how long it takes")
    ] = False,
) -> None:
    """Confirm stale records for the present code by few runs.

    One seed of each setting is run by the record's own commit, with its own packages, and by the
    present code, both on this machine. Bitwise equal: the records are confirmed, with a trace. Else
    it says where they differ and whether by code or packages.

    Example: retable refresh risk_parity/example_bai2016
    """
    from retable.launch.refresh import plan_text
    from retable.launch.refresh import refresh as bring_up

    runs, label = runs_named(name, protocol, row, column)
    if dry_run:
        typer.echo(plan_text(_found(name, protocol, runs)))
        return
    done = bring_up(runs, say, redo=redo, label=label)
    if not done.settings and not done.back:
        _found(name, protocol, runs)
    typer.echo(done.text())
    raise typer.Exit(STOPPED if done.stopped else 0 if done.ok else 1)


def _found(name: str, protocol: str | None, runs: list[FrozenRun]) -> RefreshPlan:
    """Records of the runs; that there is none is not that none is stale."""
    from retable.launch import stale

    found = stale.find(runs)
    if not found.recorded:
        raise UserError(
            f"{name}: no run of it is done in {paths.runs_folder()};"
            f" `{on_table('restore', name, protocol or 'paper')}` brings what is published"
        )
    return found
