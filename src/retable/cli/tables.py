"""Commands about tables: list, show, plan, run, publish, restore, prepare, reproduce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from retable.cli import workflow
from retable.cli.options import (
    STOPPED,
    Columns,
    Json,
    Name,
    Origin,
    Protocol,
    Rows,
    Seeds,
    one_of,
    one_or_all,
    print_json,
    say,
    table_names,
    warn,
)
from retable.cli.slurm_options import Prepare, Publish, Wait, is_cluster, orders_of_tables
from retable.util import paths
from retable.util.errors import UserError, brief
from retable.util.text import counted, on_table

if TYPE_CHECKING:
    from retable.tables.grid import Grid

app = typer.Typer()


@app.command("list")
def list_(as_json: Json = False) -> None:
    """All papers, tables, protocols and experiments.

    Example: retable list
    """
    from retable.report import listing

    entries = listing.tables()
    if as_json:
        print_json({"tables": entries, "experiments": paths.config_names("experiment")})
    else:
        typer.echo(listing.list_text(entries))


@app.command()
def show(
    name: Name,
    overrides: Annotated[list[str] | None, typer.Argument(help="of an experiment")] = None,
    as_json: Json = False,
) -> None:
    """Show a table file, or the config that an experiment composes.

    The config is YAML, with key and state of its run, of seed 0 where none is given:
    retable show experiment=risk_parity/random

    Example: retable show risk_parity/example_bai2016
    """
    from retable.report import listing

    if "=" in name:
        from retable.report.composed import composed_text

        if as_json:
            raise UserError("--json: is for a table; the config of an experiment is YAML")
        given = [name, *(overrides or [])]
        seeds = any(text.lstrip("+").startswith("seed=") for text in given)
        typer.echo(composed_text([*given, *([] if seeds else ["seed=0"])]))
        return
    if overrides:
        raise UserError(f"'{brief(overrides[0])}': only an experiment=... has overrides")
    from retable.tables import grid, spec

    names = grid.expand_names(name)
    specs = [(n, spec.load(n)) for n in names]
    if as_json:
        print_json(one_or_all([{"table": n, **s.model_dump(mode="json")} for n, s in specs]))
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
    """Count done, stale, failed and missing runs per cell.

    With the time that what is to do will take, by past records.

    Example: retable plan risk_parity/iterations
    """
    from retable.monitor import table_progress

    grids = workflow.plan(name, protocol, rows=row, columns=column, seeds=seeds)
    plans = [table_progress.progress_of(g) for g in grids]
    if as_json:
        print_json(one_or_all([p.as_json() for p in plans]))
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
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="add seeds where a verdict is open")
    ] = False,
    max_seeds: Annotated[
        int | None, typer.Option("--max-seeds", help="at most so many (20), with --until-decided")
    ] = None,
    within: Annotated[
        str | None, typer.Option(help="what fits into 8h, 90min, 2d: the cheapest cells first")
    ] = None,
    wait: Wait = False,
    prepare: Prepare = False,
    publish: Publish = False,
) -> None:
    """Do what a table still needs, then print it. Finished runs are never repeated.

    With --until-decided it looks at 3, 5, 10, 20, 40 ... seeds, and goes on with what is open.
    With --within it does the cells that are cheapest to fill, and says what it leaves.
    With launcher=slurm cluster=<profile> it submits, says how to follow, and returns.

    Example: retable run risk_parity/iterations launcher.workers=2
    """
    from retable.cli.until_decided import refuse_beside_looks, run_until_decided
    from retable.monitor import budget
    from retable.report.terminal import shown

    if retry not in {None, "diverged"}:
        raise UserError(f"--retry {retry}: only 'diverged' can be forced")
    if max_seeds is not None and not until_decided:
        raise UserError("--max-seeds: belongs to --until-decided; --seeds takes the first so many")
    if until_decided and (row or column or seeds):
        raise UserError("--until-decided: is for whole tables, without --row, --column and --seeds")
    if within is not None and until_decided:
        raise UserError("--within: the seeds that --until-decided will take are not known before")
    budget_s = None if within is None else budget.seconds_of(within)
    diverged = retry == "diverged"
    planned = workflow.plan(
        name, protocol, rows=row, columns=column, seeds=seeds, overrides=overrides
    )
    part = {"row": row, "column": column, "seeds": [str(seeds)] if seeds else None}
    chores = {"wait": wait, "prepare": prepare, "publish": publish}
    orders = orders_of_tables(name, protocol, planned, part=part, retry_diverged=diverged, **chores)
    if budget_s is not None:
        found = budget.within(planned, budget_s)
        say(found.as_text(within or ""))
        if found.left and not found.chosen and not diverged:
            say(f"nothing is run; {on_table('table', name, protocol)} shows what there is")
            raise typer.Exit
        planned = found.grids
    if until_decided:
        if is_cluster(planned) and not wait:
            raise UserError("--until-decided: looks at results, so on a cluster it needs --wait")
        ok, planned = run_until_decided(
            planned,
            max_seeds,
            lambda grids: _ended(
                workflow.launch_once(grids, retry_diverged=diverged, orders=orders)
            ),
        )
    else:
        refuse_beside_looks(planned)
        outcome = workflow.launch(planned, retry_diverged=diverged, orders=orders)
        ok, planned = _ended(outcome), outcome.grids
    # Whole tables, however few cells were asked for: what is missing has to show as missing. Of
    # fewer seeds the interval is wider, and how many there are stands in each cell.
    part_of_it = row or column or seeds or budget_s is not None
    whole = workflow.plan(name, protocol, seeds=seeds) if part_of_it else planned
    if seeds:
        whole_table = on_table("table", name, protocol)
        say(f"judged with {counted(seeds, 'seed')} each at most; {whole_table} asks for all")
    tables = workflow.judge(name, [one.table for one in workflow.collect(whole)])
    typer.echo("\n".join(shown(table) for table in tables), nl=False)
    raise typer.Exit(0 if ok else 1)


@app.command()
def publish(
    name: Name,
    protocol: Protocol = "paper",
    partial: Annotated[
        bool, typer.Option("--partial", help="also where fewer runs are here than published")
    ] = False,
    source: Origin = "runs",
) -> None:
    """Write a table and its records to results/, and the overview.

    With --from results the pages are written anew from the records that are published.

    Example: retable publish risk_parity
    """
    from retable.report import publish as published

    one_of("--from", source, workflow.SOURCES)
    if source == "results":
        from retable.tables.grid import expand_names

        expand_names(name)  # a name that there is not is refused
        if partial:
            raise UserError("--partial: is for runs that are here; --from results has none")
        for table in published.rewrite(name.partition("/")[0], protocol):
            typer.echo(published.written(table.name, protocol))
        typer.echo(str(published.overview_file()))
        return
    if protocol == "smoke":
        warn("protocol smoke runs on generated data: what it measures is nobody's result")
    grids = workflow.plan(name, protocol)
    for grid in grids:  # all of them before anything is written
        published.check(grid, partial=partial, warn=warn)
    for grid in grids:
        published.publish(grid, partial=partial)
        typer.echo(published.written(grid.name, protocol))
    typer.echo(f"{published.overview_file()}, and pages of the paper whose claims share p (Holm)")


@app.command()
def restore(
    name: Name, protocol: Protocol = "paper", row: Rows = None, column: Columns = None
) -> None:
    """Take a published table's records here, to go on from them.

    Runs that have a record here are not touched. Example: retable restore subtb/hypergrid
    """
    from retable.report.publish import refuse_unpublished
    from retable.report.restore import restore as take
    from retable.runs import published_records

    # What tuning chose is read from what is published: here its runs may be yet to come.
    grids = workflow.plan(name, protocol, rows=row, columns=column, source="results")
    refuse_unpublished(grids)
    ok = True
    for grid in grids:
        if not published_records.parquet_file(grid.name, grid.protocol).is_file():
            continue
        done = take(grid)
        typer.echo(f"{grid.name}: {done.text()}")
        ok = ok and not done.refused
    raise typer.Exit(0 if ok else 1)


@app.command()
def prepare(
    name: Name, protocol: Protocol = "paper", row: Rows = None, column: Columns = None
) -> None:
    """Fetch and decode a table's data; jobs never download.

    Example: retable prepare risk_parity/real_data
    """
    from retable.launch.prepare import prepare as fetch

    for grid in workflow.plan(name, protocol, rows=row, columns=column):
        for text in fetch(grid.runs(), say):
            typer.echo(f"{grid.name}: {text}")


@app.command()
def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(help="only this table, or a paper's", autocompletion=table_names),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="all seeds of these tables, not the first few")
    ] = False,
) -> None:
    """Run all quick tables and print them.

    Minutes for all. Reported numbers, where there are some, stand beside ours; at the end a line
    for each table, and whether the runs are the published ones.

    A table whose data cannot be had is printed from the published records, marked so.

    Example: retable reproduce
    """
    from retable.report.reproduce import reproduce as all_quick

    def launch(grids: list[Grid]) -> tuple[bool, list[Grid]]:
        outcome = workflow.launch(grids)
        return _ended(outcome), outcome.grids

    ok = all_quick(launch, typer.echo, say, name=name, full=full)
    raise typer.Exit(0 if ok else 1)


def _ended(outcome: workflow.LaunchedTables) -> bool:
    """Whether all went well; ends the command where it was stopped or is left to a cluster."""
    if outcome.ended:
        raise typer.Exit(STOPPED if outcome.stopped else 0)
    return outcome.ok
