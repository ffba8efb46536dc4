"""Arguments and options that several commands share."""

from typing import Annotated

import typer

from retable import locations


def _table_names(incomplete: str) -> list[str]:
    names = locations.config_names("table")
    papers = {name.partition("/")[0] for name in names}
    return [name for name in sorted({*names, *papers}) if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(help="paper/table, or a paper for all its tables", autocompletion=_table_names),
]
Protocol = Annotated[str, typer.Option(help="paper, or another that `retable list` shows")]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Rows = Annotated[list[str] | None, typer.Option("--row", help="only this row (repeatable)")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="only this column (repeatable)")
]
Seeds = Annotated[int | None, typer.Option("--seeds", help="only the first so many seeds")]
Source = Annotated[str, typer.Option("--from", help="runs (here) or results (published)")]
