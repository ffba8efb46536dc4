"""The command that tries a paper on its smoke runs."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from retable.cli.options import Json, print_json
from retable.util import paths

app = typer.Typer()


def _papers(incomplete: str) -> list[str]:
    names = {name.partition("/")[0] for name in paths.config_names("experiment")}
    return sorted(name for name in names if name.startswith(incomplete))


@app.command("check-paper")
def check_paper(
    paper: Annotated[str, typer.Argument(help="its slug", autocompletion=_papers)],
    as_json: Json = False,
) -> None:
    """Try a paper: the same bits twice, and after stops.

    Every config is composed, every table planned, and each experiment of protocol smoke is run:
    once, once more, stopped after its epochs and resumed, and with another seed. Exit code 1 where
    something is not as it has to be. Nothing is left of the runs.

    Example: retable check-paper subtb
    """
    from retable.admin.paper_contract import examine

    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="retable-check-paper-") as folder:
        for finding in examine(paper, Path(folder)):
            found.append(asdict(finding))
            if not as_json:
                typer.echo(f"{'ok' if finding.ok else 'FAILED':6}  {finding.what}: {finding.said}")
    if as_json:
        print_json(found)
    failed = sum(not one["ok"] for one in found)
    if not as_json:
        typer.echo(f"{paper}: {len(found) - failed} of {len(found)} are as they have to be")
    raise typer.Exit(1 if failed else 0)
