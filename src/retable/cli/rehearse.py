"""The command that rehearses tables before they are run."""

from __future__ import annotations

from typing import Annotated

import typer

from retable.cli import workflow
from retable.cli.options import Columns, Json, Name, Protocol, Rows, print_json, say, warn
from retable.util.errors import UserError

app = typer.Typer()


@app.command()
def rehearse(
    name: Name,
    protocol: Protocol = "paper",
    row: Rows = None,
    column: Columns = None,
    device: Annotated[str, typer.Option(help="cpu (this one), v100, a100 or h100")] = "cpu",
    share: Annotated[float, typer.Option(help="of its peak that is reached")] = 0.3,
    as_json: Json = False,
) -> None:
    """Build every setting at full size and estimate its cost.

    Each distinct network does one small step and one small test; its training step at the full
    batch is counted without being computed: weights, FLOPs, peak memory. From these follow the
    hours on a device, which `retable plan` shows where no run is recorded. Exit code 1 where a
    setting cannot be built or stepped, 2 where none could be rehearsed,
    as their data cannot be had or the like.

    Example: retable rehearse binary_connect/table2 --device a100
    """
    import sys

    from rich.console import Console

    from retable.launch.rehearsal.devices import check_device
    from retable.monitor.rehearsals import rehearse_tables

    if not 0 < share <= 1:
        raise UserError(f"--share {share:g}: is a share of the peak, above 0 and at most 1")
    check_device(device)
    grids = workflow.plan(name, protocol, rows=row, columns=column)
    found = rehearse_tables(grids, device, share, say, warn)
    if as_json:
        print_json(found.as_json())
    else:
        wide = None if sys.stdout.isatty() else 120
        Console(width=wide).print(found.table())
        for note in found.notes():
            typer.echo(note)
    raise typer.Exit(1 if found.failed else 2 if found.nothing else 0)
