"""The command that shows a sweep while it goes on."""

from __future__ import annotations

from typing import Annotated

import typer

from retable import locations
from retable.commands.options import table_names

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
    """A sweep as it goes on: cells that fill in, curves of what runs, failures.

    It ends when nothing goes on any more. Where the output is no terminal, it is printed once.

    Example: retable watch risk_parity/iterations
    """
    from rich.console import Console

    from retable.report.live import find, loop
    from retable.report.live.look import Looker

    if name is None:
        grids = find.tables(locations.runs_folder(), protocol)
    else:
        from retable.commands.tables import plan_grids

        grids = plan_grids(name, protocol or "paper")
    console = Console(soft_wrap=False)
    looker = Looker(grids)
    if once or not console.is_terminal or console.is_dumb_terminal:
        loop.once(looker, console)
    else:
        loop.follow(looker, console)
