"""The command that begins a paper of one's own."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
group = typer.Typer(
    help="Begin a paper of your own, from one that runs. Example: retable new paper my_paper"
)
app.add_typer(group, name="new")


@group.callback()
def _more_than_one() -> None:
    """Keep the word `paper` a command of its own, though there is no other."""


@group.command()
def paper(
    slug: Annotated[
        str, typer.Argument(metavar="NAME", help="its slug: a word in lower case, for good")
    ],
    into: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="a folder of your own, new or not; $RETABLE_EXTRA, or else the checkout",
        ),
    ] = None,
) -> None:
    """Write the files of a paper that runs, for you to edit.

    A perceptron with a smoke experiment, a table of two rows, a claim and a test: check-paper
    passes, and FILL IN stands where the paper's own words and numbers belong. Nothing is ever
    overwritten.

    Example: retable new paper my_paper --into ~/my_papers
    """
    from retable.admin import new_paper

    home = new_paper.home(into)
    for file in new_paper.write(slug, home):
        typer.echo(file.relative_to(home.folder))
    typer.echo(f"in {home.folder}; FILL IN marks what is yours to say\n\nnext:")
    if not home.is_repository and not _is_extra(home.folder):
        typer.echo(f"  export RETABLE_EXTRA={shlex.quote(str(home.folder))}")
    typer.echo(f"  retable check-paper {slug}")
    typer.echo(f"  retable run {slug}/accuracy --protocol smoke")
    typer.echo(f"  retable run {slug}/accuracy")
    if home.is_repository:
        typer.echo("\nby hand, before it is merged:")
        typer.echo(f"  README.md: a line in the table of papers that names {slug}")
        typer.echo("  CHANGELOG.md: a line")
        typer.echo("  tests/golden_keys.json: python tests/runs/test_identity.py --write")
        typer.echo(f"  results/{slug}/: retable publish {slug}")


def _is_extra(folder: Path) -> bool:
    extra = os.environ.get("RETABLE_EXTRA")
    return bool(extra) and Path(extra).resolve() == folder
