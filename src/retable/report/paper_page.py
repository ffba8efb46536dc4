"""A paper's page in the results: who wrote it, its tables with their figures, its claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from retable.report import claim_grid, claims_text, counts, formatting
from retable.report.findings import findings
from retable.report.markdown import in_cell
from retable.report.not_run import not_run, untested
from retable.report.svg import verdict_bars
from retable.report.svg.verdict_bars import Line
from retable.tables import paper_info
from retable.tables.aggregate import Table
from retable.tables.paper_info import PaperInfo

PICTURE = "README.svg"


def lines(paper: str, tables: Sequence[Table]) -> list[Line]:
    """What the bars show of a paper, a line for each protocol."""
    info = paper_info.load(paper)
    found: list[Line] = []
    for protocol in dict.fromkeys(table.protocol for table in tables):
        tally = counts.together(t for t in tables if t.protocol == protocol)
        about = f"{info.cited} · {paper}" if info else ""
        found.append(Line(info.title if info else paper, about, protocol, tally))
    return found


def picture(paper: str, tables: Sequence[Table]) -> str:
    """SVG of a paper's verdicts."""
    return verdict_bars.render("Verdicts by protocol", lines(paper, tables))


def byline(paper: str) -> str:
    """Authors, venue, year and addresses of a paper in Markdown; empty where nothing is known."""
    info = paper_info.load(paper)
    if info is None:
        return ""
    said = [f"{in_cell(', '.join(info.authors))}. {in_cell(info.venue)} {info.year}"]
    said += [f"[{what}]({address})" for what, address in links(info)]
    return " · ".join([*said, f"`{paper}`"])


def render(paper: str, tables: Sequence[Table], pages: Sequence[str]) -> str:
    """Markdown of a paper's page.

    Args:
        paper: its name.
        tables: published and judged, in the order in which they are to stand.
        pages: address of each, from this page.
    """
    info = paper_info.load(paper)
    text = [f"# {in_cell(info.title) if info else paper}", ""]
    if by := byline(paper):
        text += [by, ""]
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
    """A line for each claim, a column for each protocol; verdicts lead to the table's page."""
    found = claim_grid.grid(tables)
    if not found.lines:
        return []
    heads = ["id", "statement", "table", *(f"`{protocol}`" for protocol in found.protocols)]
    text = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for line in found.lines:
        shown = [in_cell(line.id), in_cell(line.statement), line.table]
        for protocol in found.protocols:
            number, claim = line.found.get(protocol, (None, None))
            said = "" if claim is None else in_cell(claims_text.verdict(claim))
            link = f"[{said}]({pages[number]})" if number is not None else "–"
            more = None if claim is None else claim.needed
            shown.append(link if more is None else f"{link}<br>{claims_text.needed(more)}")
        text.append(f"| {' | '.join(shown)} |")
    below = in_cell(found.below)
    if any(c and c.needed for line in found.lines for _, c in line.found.values()):
        below = f"{below} Below an undecided one: {claims_text.NEEDED}"
    return ["", "## Claims", "", *text, "", below]


def _not_run(paper: str, tables: Sequence[Table]) -> list[str]:
    text: list[str] = []
    published = {(table.name, table.protocol) for table in tables}
    for one in not_run(paper, published):
        names = ", ".join(f"`{name}`" for name in one.tables)
        why = f": {in_cell(one.why)}" if one.why else ""
        text.append(f"- {names} under protocol {one.protocol}{why}")
    if claims := untested(paper, published):
        said = "; ".join(f"{', '.join(ids)} (`{table}`)" for table, ids in claims.items())
        text.append(f"- Claims that no published table tests: {said}")
    return ["", "## Not run here", "", *text] if text else []
