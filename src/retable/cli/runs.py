"""Commands about runs: verify, compare, look at what works here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retable.cli.options import STOPPED, Json, print_json

app = typer.Typer()

Run = Annotated[str, typer.Argument(help="a run's folder, or the beginning of its key")]


@app.command()
def verify(
    run: Run,
    replace: Annotated[
        bool, typer.Option("--replace", help="put the new record in the recorded one's place")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a recorded run again and compare the results.

    They are bitwise equal, equal within a tolerance, or different, and then it says where.

    Exit code 1 where it is different. A published record can be verified too.

    Example: retable verify 3f2a91c0
    """
    from retable.launch import redo
    from retable.runs.lookup import find

    found = find(run)
    done = redo.verify(found, replace=replace)
    comparison = done.comparison
    if as_json:
        print_json(
            {
                "key": found.record.key,
                "kind": comparison.kind,
                "detail": comparison.detail,
                "circumstances": comparison.context,
                "replaced": done.replaced,
            }
        )
    else:
        typer.echo(f"{found.label}: {comparison.text()}")
        if done.replaced:
            typer.echo("the new record stands in the place of the old one")
    raise typer.Exit(STOPPED if done.stopped else 1 if comparison.kind == "different" else 0)


@app.command()
def diff(first: Run, second: Run, as_json: Json = False) -> None:
    """Compare two recorded runs: config, code, machine, results.

    Example: retable diff 3f2a91c0 77b0e4d2
    """
    from retable.report.run_diff import difference
    from retable.runs.lookup import find

    found = difference(find(first), find(second))
    if as_json:
        print_json(found.as_json())
    else:
        typer.echo(found.as_text())


@app.command()
def export(run: Run, file: Annotated[Path, typer.Argument(help="file to write")]) -> None:
    """Write a run's trained network as a file for use elsewhere.

    Example: retable export 3f2a91c0 network.safetensors
    """
    from retable.admin.export import export as write
    from retable.runs.lookup import find

    typer.echo(f"{file}: {write(find(run), file)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check versions, devices, SLURM, W&B login, data and disk.

    Example: retable doctor
    """
    from retable.admin.doctor import examine

    checks = examine()
    if as_json:
        print_json([check.__dict__ for check in checks])
    else:
        for check in checks:
            remedy = f"  -> {check.remedy}" if check.remedy else ""
            typer.echo(f"{check.state:8} {check.what:12} {check.finding}{remedy}")
    raise typer.Exit(1 if any(check.state == "broken" for check in checks) else 0)
