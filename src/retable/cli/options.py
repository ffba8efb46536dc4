"""Arguments, options and small helpers that several commands share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from retable.util import paths
from retable.util.errors import UserError, nearest

STOPPED = 130  # what shells say of a command that Ctrl-C ended


def table_names(incomplete: str) -> list[str]:
    """What completes the name of a table or a paper."""
    names = paths.config_names("table")
    papers = {name.partition("/")[0] for name in names}
    return [name for name in sorted({*names, *papers}) if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(help="paper/table, or a paper for all its tables", autocompletion=table_names),
]


def _only_one(context: typer.Context, protocol: str) -> str:
    """The protocol of tables that have one besides smoke and not the paper's, where none is given.

    What was not given is read last: the name is known here.
    """
    name = context.params.get("name")
    source = context.get_parameter_source("protocol")
    # By its name: typer has a click of its own, or not, with its version.
    if source is None or source.name != "DEFAULT" or not isinstance(name, str):
        return protocol
    from retable.tables import grid, spec

    try:
        found = {p for table in grid.expand_names(name) for p in spec.load(table).protocols()}
    except UserError:  # the command says it
        return protocol
    others = found - {"smoke"}
    if protocol in found or len(others) != 1:
        return protocol
    [only] = others
    say(f"protocol {only}: {name} has no other{' besides smoke' if 'smoke' in found else ''}")
    return only


Protocol = Annotated[
    str,
    typer.Option(help="paper, or another that `retable list` shows", callback=_only_one),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Rows = Annotated[list[str] | None, typer.Option("--row", help="only this row (repeatable)")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="only this column (repeatable)")
]
Seeds = Annotated[int | None, typer.Option("--seeds", help="only the first so many seeds")]
Origin = Annotated[str, typer.Option("--from", help="runs (here) or results (published)")]


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def one_or_all(values: list[Any]) -> Any:
    """A single value by itself, several as a list."""
    return values[0] if len(values) == 1 else values


def one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse an option's value that is none of the choices."""
    if value not in choices:
        raise UserError(f"{option} {value}: not known{nearest(value, choices)}")


def warn(text: str) -> None:
    """A warning on stderr."""
    say(f"warning: {text}")


def say(text: str) -> None:
    """A line on stderr."""
    typer.echo(text, err=True)
