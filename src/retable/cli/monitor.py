"""Commands about what is queued and running: status, cancel, logs, retry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retable.cli import workflow
from retable.cli.options import (
    Columns,
    Json,
    Name,
    Protocol,
    Rows,
    one_or_all,
    print_json,
    say,
    table_names,
    warn,
)
from retable.cli.runs import Run
from retable.cli.slurm_options import Wait
from retable.util import paths
from retable.util.errors import UserError, brief
from retable.util.text import folder_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from retable.launch.slurm.sacct import Accounting

app = typer.Typer()


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(help="paper/table, or a paper; else all", autocompletion=table_names),
    ] = None,
    protocol: Protocol = "paper",
    watch: Annotated[
        bool, typer.Option("--watch", help="look again and again until all has ended")
    ] = False,
    as_json: Json = False,
) -> None:
    """How runs are doing, here and on the cluster, a line per cell.

    Example: retable status risk_parity/iterations --watch
    """
    from retable.launch.slurm.sacct import Accounting

    if watch and as_json:
        raise UserError("--watch: is for people; --json says it once")
    look = look_at_all if name is None else _look_at_tables(name, protocol)
    accounting = Accounting()
    if watch:
        from retable.monitor.watch import watch as go_on

        go_on(lambda: look(accounting)[:2])
        return
    text, _, plain = look(accounting)
    if as_json:
        print_json(plain())
    else:
        typer.echo(text)


Look = tuple[str, bool, "Callable[[], Any]"]
"""What is seen: as text, whether it goes on, as plain values."""


def look_at_all(accounting: Accounting) -> Look:
    """How all that goes on is doing, tables or not."""
    from retable.monitor import overview, overview_text

    found = overview.overview_of(paths.runs_folder(), accounting)
    return (
        overview_text.overview_text(found),
        found.goes_on,
        lambda: overview_text.overview_json(found),
    )


def _look_at_tables(name: str, protocol: str) -> Callable[[Accounting], Look]:
    from retable.monitor.status_text import table_json, table_text
    from retable.monitor.table_status import statuses_of

    grids = workflow.plan(name, protocol)
    warned: set[str] = set()

    def warn_once(text: str) -> None:
        if text not in warned:
            warned.add(text)
            warn(text)

    def look(accounting: Accounting) -> Look:
        tables = statuses_of(grids, accounting, warn_once)
        return (
            "\n\n".join(table_text(table) for table in tables),
            any(table.goes_on for table in tables),
            lambda: one_or_all([table_json(table) for table in tables]),
        )

    return look


@app.command()
def cancel(
    name: Name,
    protocol: Protocol = "paper",
    row: Rows = None,
    column: Columns = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Take a table's runs out of the cluster's queue.

    Runs that are done on this machine are left alone.

    Example: retable cancel risk_parity/iterations --row newton
    """
    from retable.monitor import cancel as cancelling
    from retable.monitor.table_status import statuses_of

    tables = statuses_of(workflow.plan(name, protocol, rows=row, columns=column), None, warn)
    named = {run.folder: t.seen[key] for t in tables for key, run in t.runs.items()}
    found = cancelling.cancellation_of(_runs_of(tables), named, tables[0].queue)
    if found.tasks or found.local:
        typer.echo(found.text())
    if not found.tasks:
        typer.echo("nothing of it is in the queue")
    elif yes or (sys.stdin.isatty() and typer.confirm("cancel?", default=False)):
        cancelling.carry_out(found)
        typer.echo("cancelled")
    else:
        if not sys.stdin.isatty():
            raise UserError("nothing cancelled: nobody can be asked here; say --yes")
        typer.echo("nothing cancelled")


@app.command()
def logs(
    run: Run,
    follow: Annotated[
        bool, typer.Option("--follow", help="go on with what is added, until it has ended")
    ] = False,
    job: Annotated[bool, typer.Option("--job", help="what the run's job has printed")] = False,
) -> None:
    """What a run printed, its traceback, and where the files are.

    Example: retable logs 3f2a91c0
    """
    from retable.monitor import logs as found_logs
    from retable.runs.lookup import newest_folder

    folder = newest_folder(run)
    found = found_logs.Logs.of(folder)
    say(f"{folder_name(folder)}: {found_logs.state_text(folder)}")
    for what, path in (
        ("log", found.log),
        ("traceback", found.traceback),
        (f"log of job {found.job_id}", found.job),
    ):
        if path is not None:
            say(f"{what}: {path}")
    if follow:
        pick = _job_log if job else _run_log
        for piece in found_logs.pieces(folder, pick, say):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    shown = found.job if job or found.log is None else found.log
    if shown is None:
        say("it has printed nothing yet")
    else:
        sys.stdout.buffer.write(shown.read_bytes())
        sys.stdout.buffer.flush()
    if not job:
        typer.echo(found.rest_of_traceback(), nl=False)


@app.command()
def retry(
    name: Name,
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, unkeyed")] = None,
    protocol: Protocol = "paper",
    row: Rows = None,
    column: Columns = None,
    failed: Annotated[bool, typer.Option("--failed", help="those that failed")] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="those whose job went without a result")
    ] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="those done by older code; records are replaced")
    ] = False,
    wait: Wait = False,
) -> None:
    """Launch again what failed or was lost, or what options say.

    Without launcher=... in the overrides, where it was launched before. An experiment or a run,
    by the beginning of its key, can be retried too.

    Example: retable retry risk_parity/iterations --failed cluster=mine resources.memory_gb=16
    """
    from retable.cli.named_runs import is_of_tables
    from retable.cli.retry import retry_runs, retry_tables

    chosen = {"failed": failed, "lost": lost, "stale": stale}
    kinds = {kind for kind, given in chosen.items() if given}
    if not is_of_tables(name):
        if overrides or wait or row or column or protocol != "paper":
            raise UserError(f"'{brief(name)}' is no table: only a table takes more than its name")
        raise typer.Exit(retry_runs(name, kinds or {"failed"}))
    kinds = kinds or {"failed", "lost"}
    part = {"row": row, "column": column}
    raise typer.Exit(retry_tables(name, protocol, part, overrides or [], kinds, wait=wait))


def _job_log(found: Any) -> Any:
    return found.job


def _run_log(found: Any) -> Any:
    return found.log


def _runs_of(tables: list[Any]) -> Any:
    from pathlib import Path

    cells = [cell for table in tables for cell in table.grid.cells.values()]
    return Path(cells[0].setting.config.paths.runs) if cells else paths.runs_folder()
