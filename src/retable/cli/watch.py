"""The command that shows a sweep while it goes on."""

from __future__ import annotations

from typing import Annotated

import typer

from retable.cli import workflow
from retable.cli.options import table_names
from retable.util import paths

app = typer.Typer()


@app.command()
def watch(
    name: Annotated[
        str | None,
        typer.Argument(
            help="paper/table, or a paper; else what goes on", autocompletion=table_names
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="paper where a table is named, or another of its own")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="print it as it is now, and end")] = False,
) -> None:
    """Watch a sweep: cells that fill in, curves, failures.

    It ends when nothing goes on any more. Runs of no table have a line each. Where the output is
    no terminal, it is printed once.

    Example: retable watch risk_parity/iterations
    """
    from rich.console import Console

    from retable.monitor.board import active_tables, screen
    from retable.monitor.board.view import Watcher

    console = Console(soft_wrap=False)
    once = once or not console.is_terminal or console.is_dumb_terminal
    if name is None:
        try:
            grids = active_tables.tables(paths.runs_folder(), protocol)
        except active_tables.NoTable:
            if protocol is not None:
                raise
            _watch_sweep(once=once)
            return
    else:
        grids = workflow.plan(name, protocol or "paper")
    watcher = Watcher(grids)
    if once:
        screen.once(watcher, console)
    else:
        screen.follow(watcher, console)


def _watch_sweep(*, once: bool) -> None:
    """Runs that no table has, such as those of ``train -m``: a line each."""
    from retable.cli.monitor import look_at_all
    from retable.launch.slurm.sacct import Accounting
    from retable.monitor.watch import watch as go_on

    accounting = Accounting()
    if once:
        typer.echo(look_at_all(accounting)[0])
    else:
        go_on(lambda: look_at_all(accounting)[:2])
