"""The commands. Each calls one function; nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from retable import __version__, locations
from retable.errors import UserError
from retable.options import Columns, Json, Name, Protocol, Rows, Seeds, Source

_STOPPED = 130  # what shells say of a command that Ctrl-C ended

app = typer.Typer(
    help="Reproduce a paper's table, cell by cell. Example: retable run risk_parity/iterations",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        typer.echo(f"retable {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command("list")
def list_(as_json: Json = False) -> None:
    """All papers, tables, protocols and experiments.

    Example: retable list
    """
    from retable.report import listing

    entries = listing.tables()
    if as_json:
        _print_json({"tables": entries, "experiments": locations.config_names("experiment")})
    else:
        typer.echo(listing.list_text(entries))


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """What a table file says: rows, columns, reported values, source, differences.

    Example: retable show risk_parity/example_bai2016
    """
    from retable.report import listing
    from retable.tables import grid, spec

    names = grid.expand_names(name)
    specs = [(n, spec.load(n)) for n in names]
    if as_json:
        _print_json(_one_or_all([{"table": n, **s.model_dump(mode="json")} for n, s in specs]))
    else:
        typer.echo("\n\n".join(listing.show_text(n, s) for n, s in specs))


@app.command()
def plan(
    name: Name,
    protocol: Protocol = "paper",
    row: Rows = None,
    column: Columns = None,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """What is done, stale, failed and to do per cell, and the time it will take.

    Example: retable plan risk_parity/iterations
    """
    from retable.tables import progress

    plans = [progress.survey(g) for g in _grids(name, protocol, row, column, seeds)]
    if as_json:
        _print_json(_one_or_all([p.as_json() for p in plans]))
    else:
        typer.echo("\n\n".join(p.as_text() for p in plans))


@app.command()
def run(
    name: Name,
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, unkeyed")] = None,
    protocol: Protocol = "paper",
    row: Rows = None,
    column: Columns = None,
    seeds: Seeds = None,
    retry: Annotated[str | None, typer.Option(help="diverged: start those again too")] = None,
) -> None:
    """Do what a table still needs, then print it. Finished runs are never repeated.

    Example: retable run risk_parity/iterations launcher.workers=2
    """
    from retable.report import markdown
    from retable.tables import collect
    from retable.tables.aggregate import build

    if retry not in {None, "diverged"}:
        raise UserError(f"--retry {retry}: only 'diverged' can be forced")
    grids = _grids(name, protocol, row, column, seeds, overrides or [])
    ok = _launch_grids(grids, retry_diverged=retry == "diverged")
    # Whole tables, however little was asked for: what is missing has to show as missing.
    whole = _grids(name, protocol) if row or column or seeds else grids
    tables = [markdown.render(build(grid, collect.from_runs(grid, _warn))) for grid in whole]
    typer.echo("\n".join(tables), nl=False)
    raise typer.Exit(0 if ok else 1)


@app.command()
def train(
    overrides: Annotated[list[str], typer.Argument(help="Hydra overrides")],
    multirun: Annotated[
        bool, typer.Option("-m", "--multirun", help="lists, globs, ranges")
    ] = False,
) -> None:
    """One run, or with -m a Hydra multirun, of an experiment.

    Example: retable train -m experiment=risk_parity/random data.n_assets=25,50 seed=0,1,2
    """
    from retable.launch import multirun as multi
    from retable.report import listing

    if multirun:
        summary = multi.sweep(overrides)
    else:
        from retable.compose import check_overrides
        from retable.launch.engine import launch

        check_overrides(overrides, sweep=False)
        runs = multi.freeze_jobs([overrides])
        summary = launch(runs)
        typer.echo(listing.run_text(runs[0]))
    typer.echo(listing.summary_text(summary), err=True)
    raise typer.Exit(_STOPPED if summary.stopped else 0 if summary.ok else 1)


@app.command()
def table(
    name: Name,
    protocol: Protocol = "paper",
    format: Annotated[str, typer.Option("--format", help="md, csv or json")] = "md",
    source: Source = "runs",
    as_json: Json = False,
) -> None:
    """Print a table from the records there are; starts nothing.

    Example: retable table risk_parity/example_bai2016 --from results --format csv
    """
    from retable.report import data, markdown
    from retable.tables import collect
    from retable.tables.aggregate import build

    format = "json" if as_json else format
    _one_of("--format", format, ("md", "csv", "json"))
    _one_of("--from", source, ("runs", "results"))
    tables = [
        build(g, collect.from_results(g) if source == "results" else collect.from_runs(g, _warn))
        for g in _grids(name, protocol)
    ]
    if format == "json":
        _print_json(_one_or_all([data.as_json(t, source=source) for t in tables]))
    else:
        render = markdown.render if format == "md" else data.as_csv
        typer.echo("\n".join(render(t) for t in tables), nl=False)


@app.command()
def publish(
    name: Name,
    protocol: Protocol = "paper",
    partial: Annotated[
        bool, typer.Option("--partial", help="also where fewer runs are here than published")
    ] = False,
) -> None:
    """Write a table and its records into results/, and the overview.

    Example: retable publish risk_parity
    """
    from retable.report.publish import publish as write

    for grid in _grids(name, protocol):
        path, _ = write(grid, partial=partial)
        typer.echo(f"{path} and {path.with_suffix('.parquet').name}")


@app.command()
def prepare(name: Name, protocol: Protocol = "paper") -> None:
    """Fetch and decode the data of a table before its runs start; jobs never download.

    Example: retable prepare risk_parity/real_data
    """
    from retable.data.prepare import prepare as fetch

    for grid in _grids(name, protocol):
        for text in fetch(grid.runs(), _say):
            typer.echo(f"{grid.name}: {text}")


@app.command()
def reproduce() -> None:
    """Run every table that is declared quick and print it beside the reported numbers.

    A table whose data cannot be had is printed from the published records, marked so.

    Example: retable reproduce
    """
    from retable.report.reproduce import reproduce as all_quick

    ok = all_quick(_launch_grids, typer.echo, _say)
    raise typer.Exit(0 if ok else 1)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, devices, SLURM, W&B login, mirror, disk: what works, what not, what to do.

    Example: retable doctor
    """
    from retable.doctor import examine

    checks = examine()
    if as_json:
        _print_json([check.__dict__ for check in checks])
    else:
        for check in checks:
            remedy = f"  -> {check.remedy}" if check.remedy else ""
            typer.echo(f"{check.state:8} {check.what:12} {check.finding}{remedy}")
    raise typer.Exit(1 if any(check.state == "broken" for check in checks) else 0)


def _grids(
    name: str,
    protocol: str,
    rows: list[str] | None = None,
    columns: list[str] | None = None,
    seeds: int | None = None,
    overrides: list[str] | None = None,
) -> list[Any]:
    """Plan a table, or all tables of a paper that have the protocol."""
    from retable.errors import nearest
    from retable.tables import grid, spec

    names = grid.expand_names(name)
    with_protocol = [n for n in names if protocol in spec.load(n).protocols()]
    if not with_protocol:
        known = {p for n in names for p in spec.load(n).protocols()}
        raise UserError(f"{name}: no protocol '{protocol}'{nearest(protocol, known)}")
    return [
        grid.plan(
            n,
            protocol,
            overrides=overrides or [],
            rows=rows or [],
            columns=columns or [],
            n_seeds=seeds,
        )
        for n in with_protocol
    ]


def _launch_grids(grids: list[Any], *, retry_diverged: bool = False) -> bool:
    """Launch all runs of some tables together; says how it went, returns whether all is well."""
    from retable.launch.engine import launch
    from retable.report import listing

    names: dict[str, str] = {}
    for grid in grids:
        for cell in grid.cells.values():
            names.setdefault(cell.setting.with_seed(0).key, cell.column)
    summary = launch(
        [run for grid in grids for run in grid.runs()],
        retry_diverged=retry_diverged,
        label=lambda r: f"{names.get(r.with_seed(0).key, r.key[:8])} s{r.config.seed}",
    )
    typer.echo(listing.summary_text(summary), err=True)
    if summary.stopped:
        raise typer.Exit(_STOPPED)
    return summary.ok


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    from retable.errors import nearest

    if value not in choices:
        raise UserError(f"{option} {value}: not known{nearest(value, choices)}")


def _warn(text: str) -> None:
    _say(f"warning: {text}")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2."""
    if sys.argv[1:] == ["--version"]:  # Typer would load pydantic to read the option
        print(f"retable {__version__}")
        return
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as error:
        _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        # Typer refuses an unknown option or a missing argument with an exception of its own.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        _refuse(message())


def _refuse(text: str) -> NoReturn:
    typer.echo(f"error: {' '.join(text.split())}", err=True)
    sys.exit(2)
