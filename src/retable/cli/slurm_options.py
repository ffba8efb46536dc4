"""Options of `run` and `train` that only a cluster's launcher knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from retable.cli.options import say
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.config.schema import RunConfig
    from retable.launch.slurm.submit import Orders

Wait = Annotated[
    bool, typer.Option("--wait", help="on a cluster: until the runs have ended, then go on")
]
Prepare = Annotated[
    bool, typer.Option("--prepare", help="on a cluster: a job fetches the data before")
]
Publish = Annotated[
    bool, typer.Option("--publish", help="on a cluster: a job publishes the table behind")
]


def is_cluster(grids: list[Any]) -> bool:
    """Whether the runs of some tables go to a cluster."""
    cell = next((cell for grid in grids for cell in grid.cells.values()), None)
    return cell is not None and cell.setting.config.launcher.name == "slurm"


def refuse_without_cluster(config: RunConfig | None, **options: bool) -> None:
    """Refuse options of a cluster's launcher where runs are done here.

    Raises:
        UserError: naming the first that is given.
    """
    given = next((name for name, value in options.items() if value), None)
    if given and (config is None or config.launcher.name != "slurm"):
        raise UserError(f"--{given}: is for launcher=slurm cluster=<profile>")


def orders_of_tables(
    name: str,
    protocol: str,
    grids: list[Any],
    *,
    part: dict[str, list[str] | None],
    wait: bool,
    prepare: bool,
    publish: bool,
    retry_diverged: bool = False,
) -> Orders | None:
    """What a launch of tables tells a cluster; None where it is none.

    Args:
        name: as given on the command line.
        protocol: of the tables.
        grids: the planned tables.
        part: rows and columns that are asked for.
        wait: see the options.
        prepare: see the options.
        publish: see the options.
        retry_diverged: retry diverged runs as well.
    """
    if not is_cluster(grids):
        refuse_without_cluster(None, wait=wait, prepare=prepare, publish=publish)
        return None
    from retable.launch.slurm.submit import Orders

    if publish and any(part.values()):
        raise UserError("--publish: is for whole tables, without --row, --column and --seeds")
    table = (name, *(() if protocol == "paper" else ("--protocol", protocol)))
    chosen = [w for o in ("row", "column") for value in part[o] or [] for w in (f"--{o}", value)]
    return Orders(
        label=" ".join(table),
        table=table,
        wait=wait,
        prepare=(*table, *chosen) if prepare else None,
        publish=publish,
        retry_diverged=retry_diverged,
        say=say,
    )
