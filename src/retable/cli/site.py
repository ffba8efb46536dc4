"""The command that builds the site."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from retable.cli.options import one_of, say, warn

app = typer.Typer()

_QUIET_S = 2.0
_EVERY_S = 5.0


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

    tell = _Progress()
    read = inputs.from_results if source == "results" else inputs.from_runs
    found = read(tell, warn)
    built = build(found, output, origin=source, tell=tell)
    tell.end()
    first = built.folder / "index.html"
    typer.echo(f"{first}: {built.n_files} files, {built.size / 1e6:.1f} MB")
    if open_:
        import webbrowser

        webbrowser.open(first.as_uri())


class _Progress:
    """Says how far it is once it takes more than two seconds; on a terminal in one line."""

    def __init__(self) -> None:
        self.begin = self.last = time.monotonic()
        self.live = sys.stderr.isatty()
        self.shown = False

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.begin < _QUIET_S or now - self.last < (0.2 if self.live else _EVERY_S):
            return
        self.last, self.shown = now, True
        line = f"{what}: {done} of {total}"
        if self.live:
            typer.echo(f"\r\x1b[K{line}", err=True, nl=False)
        else:
            say(line)

    def end(self) -> None:
        """Clear the line."""
        if self.shown and self.live:
            typer.echo("\r\x1b[K", err=True, nl=False)
