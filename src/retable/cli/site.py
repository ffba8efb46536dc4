"""The command that builds the site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retable.cli.options import one_of, warn

app = typer.Typer()


@app.command()
def site(
    source: Annotated[
        str, typer.Option("--from", help="results (published) or runs (here)")
    ] = "results",
    output: Annotated[Path, typer.Option(help="folder to write")] = Path("site"),
    open_: Annotated[bool, typer.Option("--open", help="show it in a browser")] = False,
) -> None:
    """Build a site of all tables, claims and runs; needs no server.

    Example: retable site --output site --open
    """
    one_of("--from", source, ("results", "runs"))
    from retable.report.site import inputs
    from retable.report.site.build import build
    from retable.util.progress import Progress

    read = inputs.from_results if source == "results" else inputs.from_runs
    with Progress() as progress:
        found = read(progress.stage, warn)
        built = build(found, output, origin=source, tell=progress.stage)
    first = built.folder / "index.html"
    typer.echo(f"{first}: {built.n_files} files, {built.size / 1e6:.1f} MB")
    if open_:
        import webbrowser

        webbrowser.open(first.as_uri())
