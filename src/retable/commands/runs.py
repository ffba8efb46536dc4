"""Commands about runs: train, check again, compare, tidy up."""

from __future__ import annotations

from typing import Annotated

import typer

from retable.commands.options import STOPPED, Json, print_json

app = typer.Typer()


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
    raise typer.Exit(STOPPED if summary.stopped else 0 if summary.ok else 1)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, devices, SLURM, W&B login, mirror, disk: what works, what not, what to do.

    Example: retable doctor
    """
    from retable.doctor import examine

    checks = examine()
    if as_json:
        print_json([check.__dict__ for check in checks])
    else:
        for check in checks:
            remedy = f"  -> {check.remedy}" if check.remedy else ""
            typer.echo(f"{check.state:8} {check.what:12} {check.finding}{remedy}")
    raise typer.Exit(1 if any(check.state == "broken" for check in checks) else 0)
