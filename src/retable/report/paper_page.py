"""A paper's page in the results: who wrote it, its tables with their figures, its claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from retable.report import claims_text, formatting
from retable.report.findings import findings
from retable.report.markdown import in_cell
from retable.report.svg import verdict_bars
from retable.report.svg.verdict_bars import Line
from retable.tables import paper_info, spec
from retable.tables.aggregate import Table
from retable.tables.paper_info import PaperInfo
from retable.tables.results import Tally
from retable.tables.verdicts.judge import add
from retable.util import paths
from retable.util.text import counted

PICTURE = "README.svg"


def lines(paper: str, tables: Sequence[Table]) -> list[Line]:
    """What the bars show of a paper, a line for each protocol."""
    info = paper_info.load(paper)
    found: list[Line] = []
    for protocol in dict.fromkeys(table.protocol for table in tables):
        tally = add([t.tally or Tally() for t in tables if t.protocol == protocol])
        about = f"{info.cited} · {paper}" if info else ""
        found.append(Line(info.title if info else paper, about, protocol, tally))
    return found


def picture(paper: str, tables: Sequence[Table]) -> str:
    """SVG of a paper's verdicts."""
    return verdict_bars.render("Verdicts by protocol", lines(paper, tables))


def render(paper: str, tables: Sequence[Table], pages: Sequence[str]) -> str:
    """Markdown of a paper's page.

    Args:
        paper: its name.
        tables: published and judged, in the order in which they are to stand.
        pages: address of each, from this page.
    """
    info = paper_info.load(paper)
    text = [f"# {in_cell(info.title) if info else paper}", ""]
    if info:
        said = [f"{in_cell(', '.join(info.authors))}. {in_cell(info.venue)} {info.year}"]
        said += [f"[{what}]({address})" for what, address in links(info)]
        text += [" · ".join([*said, f"`{paper}`"]), ""]
    if info and info.says:
        text += ["**The paper.** " + in_cell(info.says), ""]
    if info and info.found:
        found = findings(info.found, tables, pages)
        text += ["**What came out here.**", "", *(f"- {one.text}" for one in found), ""]
    text += [f"![Verdicts by protocol: {_described(paper, tables)}]({PICTURE})", ""]
    text += ["## Tables", "", "| table | protocol | runs | complete cells | verdicts |"]
    text.append("| --- | --- | ---: | ---: | --- |")
    for table, page in zip(tables, pages, strict=True):
        said = " ".join(formatting.table_tally(table))
        text.append(
            f"| [{in_cell(table.spec.title)}]({page})<br>`{table.name}` | {table.protocol} |"
            f" {len(table.records):,} | {complete(table)}/{len(table.cells)} | {in_cell(said)} |"
        )
    text += _figures(tables, pages)
    text += _claims(tables, pages)
    text += _not_run(paper, tables)
    return "\n".join([*text, ""])


def links(info: PaperInfo) -> list[tuple[str, str]]:
    """Where a paper can be read: what is there, and its address."""
    found = [(f"arXiv {info.arxiv}", f"https://arxiv.org/abs/{info.arxiv}")] if info.arxiv else []
    return [*found, ("the authors' code", info.code)] if info.code else found


def complete(table: Table) -> int:
    """How many of its cells have all of their runs."""
    return sum(c.n > 0 and c.n_done >= c.n_planned for c in table.cells.values())


def _described(paper: str, tables: Sequence[Table]) -> str:
    said = [
        f"protocol {line.protocol}: {' '.join(formatting.tally(line.tally, line.protocol))}"
        for line in lines(paper, tables)
    ]
    return in_cell(" ".join(said)).replace("[", "(").replace("]", ")")


def _figures(tables: Sequence[Table], pages: Sequence[str]) -> list[str]:
    text: list[str] = []
    for table, page in zip(tables, pages, strict=True):
        if table.spec.figure is not None:
            drawn = PurePosixPath(page).with_suffix(".svg")
            title = in_cell(table.spec.title).replace("[", "(").replace("]", ")")
            text += [f"**{title}**, protocol {table.protocol}", ""]
            text += [f"[![{title}]({drawn})]({page})", ""]
    return ["", "## Figures", "", *text[:-1]] if text else []


def _claims(tables: Sequence[Table], pages: Sequence[str]) -> list[str]:
    text: list[str] = []
    for table, page in zip(tables, pages, strict=True):
        for claim in table.claims:
            shown = claims_text.cells(claim)
            text.append(
                f"| {in_cell(shown[0])} | {in_cell(shown[1])} | {in_cell(shown[3])} |"
                f" [{table.name.partition('/')[2]}]({page}) | {table.protocol} |"
            )
    if not text:
        return []
    head = ["| id | statement | verdict | table | protocol |", "| --- | --- | --- | --- | --- |"]
    return ["", "## Claims", "", *head, *text]


def not_run(paper: str, tables: Sequence[Table]) -> list[tuple[str, list[str]]]:
    """A paper's tables with protocols of which nothing is there; smoke only tries the code out."""
    there = {(table.name, table.protocol) for table in tables}
    names = [name for name in paths.config_names("table") if name.partition("/")[0] == paper]
    missing = [
        (name, [p for p in spec.load(name).protocols() if p != "smoke" and (name, p) not in there])
        for name in names
    ]
    return [(name, own) for name, own in missing if own]


def _not_run(paper: str, tables: Sequence[Table]) -> list[str]:
    missing = not_run(paper, tables)
    if not missing:
        return []
    return [
        "",
        "## Not run here",
        "",
        f"Of {counted(len(missing), 'table')} nothing is published under these protocols:",
        "",
        *(f"- `{name}`: {', '.join(own)}" for name, own in missing),
    ]
