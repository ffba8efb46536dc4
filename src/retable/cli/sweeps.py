"""Commands about grids that are no tables: sweep an experiment, summarize its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retable.cli.options import STOPPED, Json, print_json, say, warn
from retable.cli.slurm_options import Wait, refuse_without_cluster
from retable.util import paths
from retable.util.errors import UserError

app = typer.Typer()


def _experiments(incomplete: str) -> list[str]:
    names = paths.config_names("experiment")
    return [name for name in names if name.startswith(incomplete)]


@app.command()
def train(
    overrides: Annotated[list[str], typer.Argument(help="Hydra overrides")],
    multirun: Annotated[
        bool, typer.Option("-m", "--multirun", help="lists, globs, ranges")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="show a stale record as it is; without: do it again")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="with -m: do stale runs again; without: they are kept")
    ] = False,
    cfg: Annotated[
        str | None, typer.Option(metavar="job|hydra", help="print the composed config, run nothing")
    ] = None,
    wait: Wait = False,
) -> None:
    """Run an experiment once or, with -m, as a Hydra multirun.

    After an edit of its code a run is done again; the old record stands until the new one is there.

    With launcher=slurm cluster=<profile> it submits, says how to follow, and returns.

    Example: retable train -m experiment=risk_parity/random data.n_assets=25,50 seed=0,1,2
    """
    from retable.launch import hydra_sweep as multi
    from retable.report import listing

    if keep and again:
        raise UserError("--keep, --again: give one of them")
    if cfg is not None:
        from retable.report.composed import composed_text

        typer.echo(composed_text(overrides, part=cfg, multirun=multirun))
        return
    if multirun:
        summary = multi.sweep(overrides, wait=wait, again=again)
    else:
        from retable.config.compose import check_overrides
        from retable.launch.dispatch import launch
        from retable.launch.redo import launch_anew, stale_among

        check_overrides(overrides, sweep=False)
        runs = multi.freeze_jobs([overrides])
        refuse_without_cluster(runs[0].config, wait=wait)
        orders = multi.orders_of(runs, wait=wait)
        if keep:
            summary = launch(runs, orders=orders)
        else:
            for run in stale_among(runs):
                say(
                    f"{run.label}: stale, computed by other code than is here now; done again, the"
                    " old record stands until the new one is there (--keep shows it)"
                )
            summary = launch_anew(runs, orders)
        if not summary.pending:
            old = "" if keep or summary.ok or not stale_among(runs) else ", its old record"
            typer.echo(listing.run_text(runs[0], old))
    typer.echo(listing.summary_text(summary), err=True)
    raise typer.Exit(STOPPED if summary.stopped else 0 if summary.ok else 1)


@app.command()
def summarize(
    experiment: Annotated[
        str, typer.Argument(help="name as in experiment=...", autocompletion=_experiments)
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(help="keys to group by, comma between; what varies if left out"),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="only this metric (repeatable)")] = None,
    runs: Annotated[Path | None, typer.Option(help="folder of all runs")] = None,
    as_json: Json = False,
) -> None:
    """Mean, std and n per setting of an experiment's runs.

    Example: retable summarize risk_parity/random --by data.n_assets --metric test/n_iter
    """
    from retable.report import sweep_summary
    from retable.tables.summarize import summarize as group

    keys = [key.strip() for part in by or [] for key in part.split(",") if key.strip()]
    found = group(
        experiment,
        runs or paths.runs_folder(),
        warn,
        by=list(dict.fromkeys(keys)),
        metrics=metric or [],
    )
    if as_json:
        print_json(sweep_summary.as_json(found))
    else:
        typer.echo(sweep_summary.as_text(found))
