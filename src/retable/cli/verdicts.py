"""Commands that print what the records say: a table, one of its cells explained, the claims."""

from __future__ import annotations

from typing import Annotated

import typer

from retable.cli import workflow
from retable.cli.options import Json, Name, Origin, Protocol, one_of, one_or_all, print_json
from retable.util import paths
from retable.util.errors import UserError, nearest

app = typer.Typer()


@app.command()
def table(
    name: Name,
    protocol: Protocol = "paper",
    format: Annotated[
        str | None,
        typer.Option("--format", help="text (of a terminal), md (where piped), latex, csv or json"),
    ] = None,
    source: Origin = "runs",
    explain: Annotated[
        str | None, typer.Option(metavar="ROW,COLUMN", help="everything behind one cell")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a table from the records there are; starts nothing.

    Example: retable table risk_parity/example_bai2016 --from results --format csv
    """
    from retable.report import json_csv, latex, markdown, terminal

    if as_json and format not in (None, "json"):
        raise UserError(f"--json: contradicts --format {format}; give one of them")
    format = "json" if as_json else format
    if format is not None:
        one_of("--format", format, ("text", "md", "latex", "csv", "json"))
    if explain is not None and format not in (None, "text", "json"):
        raise UserError(f"--explain --format {format}: a cell is explained as text or json")
    one_of("--from", source, workflow.SOURCES)
    grids = workflow.plan(name, protocol, source=source)
    if explain is not None and len(grids) > 1:
        names = ", ".join(grid.name for grid in grids)
        raise UserError(f"--explain: {name} has {len(grids)} tables; name one: {names}")
    collected = workflow.collect(grids, source)
    if explain is not None:
        _explain(collected[0], explain, format or "text")
        return
    tables = workflow.judge(name, [one.table for one in collected])
    if format == "json":
        print_json(one_or_all([json_csv.as_json(t, source=source) for t in tables]))
    elif format == "csv":
        typer.echo(json_csv.as_csv(*tables), nl=False)
    else:
        texts = {None: terminal.shown, "text": terminal.text, "md": markdown.render}
        render = texts.get(format, latex.render)
        typer.echo("\n".join(render(t) for t in tables), nl=False)


def _explain(one: workflow.Collected, place: str, format: str) -> None:
    from retable.report import explain
    from retable.tables.verdicts.judge import judge

    found = explain.explain(judge(one.table), one.grid, one.records, place)
    if format == "json":
        print_json(found.as_json())
    else:
        typer.echo(found.as_text())


@app.command()
def claims(
    name: Annotated[
        str | None, typer.Argument(help="paper/table or paper; all papers where left out")
    ] = None,
    protocol: Protocol = "paper",
    source: Origin = "runs",
    as_json: Json = False,
) -> None:
    """Judge each claim: verdict, effect, interval, p, seeds needed.

    p is adjusted (Holm) over all claims of the paper, also where only one table is asked for.

    Example: retable claims risk_parity --from results
    """
    from retable.report import claims_text as report
    from retable.report import json_csv
    from retable.tables import grid, spec
    from retable.tables.planned import plan_tables
    from retable.tables.verdicts.judge import judge_all

    asked = paths.config_names("table") if name is None else grid.expand_names(name)
    papers = dict.fromkeys(n.partition("/")[0] for n in asked)
    specs = {n: spec.load(n) for paper in papers for n in grid.expand_names(paper)}
    with_protocol = [n for n in specs if protocol in specs[n].protocols()]
    if not (wanted := set(asked).intersection(with_protocol)):
        known = {p for n in asked for p in specs[n].protocols()}
        raise UserError(f"{name or 'no table'}: no protocol '{protocol}'{nearest(protocol, known)}")
    one_of("--from", source, workflow.SOURCES)
    claiming = [n for n in with_protocol if specs[n].claims]
    planned = plan_tables(claiming, protocol, source=source)
    judged = judge_all(one.table for one in workflow.collect(planned, source))
    tables = [t for t in judged if t.name in wanted]
    if as_json:
        print_json(
            [
                {
                    "table": t.name,
                    "paper": t.spec.paper,
                    "protocol": protocol,
                    **json_csv.finite(report.as_json(c)),
                }
                for t in tables
                for c in t.claims
            ]
        )
    else:
        typer.echo(report.listing(tables))
