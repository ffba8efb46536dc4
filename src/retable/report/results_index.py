"""The overview of all published tables: a picture of the verdicts, and a line for each paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from retable.report import counts, formatting, paper_page
from retable.report.markdown import in_cell
from retable.report.svg import verdict_bars
from retable.runs.record_set import Found
from retable.tables import paper_info
from retable.tables.aggregate import Table
from retable.util import paths

PICTURE = "README.svg"

_WRITTEN = "Written by `retable publish` from the records beside each table."
_TESTED = """\
Written by `retable publish` from the records beside each table; a test fails where one does not
follow from the other."""

_HEAD = """# Results

{written}

A paper is judged by its share of cells that are better or worse than reported: where every number
is the paper's, up to 5 % of them are called so by chance; a number that stands in several tables
counts once. Under other protocols than `paper` numbers are not compared, only claims are tested.
"""


def _is_elsewhere() -> bool:
    """Whether results are kept with papers of somebody's own, which have not this one's tests."""
    return not paths.results_dir().is_relative_to(paths.project_root())


def render(papers: Mapping[str, Sequence[Table]]) -> str:
    """Markdown of the overview.

    Args:
        papers: published and judged tables of each paper, protocol by protocol.
    """
    lines = [
        *_HEAD.format(written=_WRITTEN if _is_elsewhere() else _TESTED).splitlines(),
        "",
        f"![Verdicts of every paper, by protocol; the table below has the numbers]({PICTURE})",
        "",
        "| paper | tables | runs | hours | cells compared, protocol `paper` | claims | causes |",
        "| --- | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for paper, tables in papers.items():
        info = paper_info.load(paper)
        name = f"[{in_cell(info.title if info else paper)}]({paper}/README.md)"
        about = f"<br>{in_cell(info.cited)} · `{paper}`" if info else ""
        took = _hours(tables)
        lines.append(
            f"| {name}{about} | {len({t.name for t in tables})} | {len(took):,} |"
            f" {sum(took.values()) / 3600:.1f} | {in_cell(_cells(tables))} | {_claims(tables)} |"
            f" {_causes(tables)} |"
        )
    lines += [
        "",
        "Hours: by the clock, one run after another; a run that several tables share counts once.",
        "Causes: of how many cells that are better or worse and claims that are contradicted the"
        " cause is known, by runs that test it or by what a script has measured.",
    ]
    return "\n".join([*lines, ""])


def picture(papers: Mapping[str, Sequence[Table]]) -> str:
    """SVG of all verdicts."""
    found = [line for paper, tables in papers.items() for line in paper_page.lines(paper, tables)]
    return verdict_bars.render("Papers by protocol", found)


def _hours(tables: Sequence[Table]) -> dict[str, float]:
    """Seconds of every run behind some tables, what settings were chosen by or start from too."""
    found: dict[str, float] = {}
    for table in tables:
        for records in (table.records, table.tuning, table.parents):
            columns = Found.of(records).columns
            found.update(zip(columns.keys, map(float, columns.wall_s), strict=True))
    return found


def _cells(tables: Sequence[Table]) -> str:
    t = counts.together(table for table in tables if table.protocol == "paper")
    if not t.judged:
        return "none"
    verdicts = [(t.reproduced, "reproduced"), (t.consistent, "consistent")]
    verdicts += [(t.undecided, "undecided"), (t.different, "better or worse")]
    said = ", ".join(f"{n} {what}" for n, what in verdicts if n)
    chance = f" (up to {t.by_chance:.1f} by chance)" if t.different and t.estimated else ""
    return f"{t.judged}: {said}{chance}"


def _causes(tables: Sequence[Table]) -> str:
    """How many differences have a cause, and what tests it."""
    total = 0
    by: Counter[str] = Counter()
    for table in tables:
        known = {why.text(): why for why in table.spec.why}
        own = [] if table.spec.counted_in else table.cells.values()
        judged = [cell.judged for cell in own if cell.judged]
        said = [one.why for one in judged if one.why]
        said += [claim.why for claim in table.claims if claim.verdict == "contradicted"]
        total += len(said)
        for why in (known[text] for text in said if text in known):
            by["by runs" if why.runs else "by a script"] += 1
    if not total:
        return ""
    how = ", ".join(f"{n} {what}" for what, n in sorted(by.items()))
    return f"{by.total()} of {total}{f': {how}' if how else ''}"


def _claims(tables: Sequence[Table]) -> str:
    found: list[str] = []
    for protocol in dict.fromkeys(table.protocol for table in tables):
        t = counts.together(table for table in tables if table.protocol == protocol)
        if said := formatting.claims_tally(t):
            verdicts = said.partition(": ")[2].partition(" (")[0].rstrip(".")
            found.append(f"`{protocol}`: {in_cell(verdicts)}")
    return "<br>".join(found) or "none"
