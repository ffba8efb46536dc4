"""The overview of all published tables: papers by verdicts, then the tables with links."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from retable.report import formatting
from retable.report.markdown import in_cell
from retable.tables import paper_info
from retable.tables.aggregate import Table
from retable.tables.results import Tally
from retable.tables.verdicts.judge import add

_HEAD = """# Results

Written by `retable publish` from the records beside each table; a test fails where one does not
follow from the other.

A paper is judged by its share of cells that are better or worse than reported: where every number
is the paper's, up to 5 % of them are called so by chance. Under other protocols than `paper`
numbers are not compared, only claims are tested.
"""


def render(tables: Sequence[Table], address: Callable[[Table], str]) -> str:
    """Markdown of the overview.

    Args:
        tables: published and judged.
        address: of a table's page.
    """
    papers: dict[tuple[str, str], list[Tally]] = {}
    for table in sorted(tables, key=lambda t: (t.spec.paper, t.protocol != "paper", t.protocol)):
        tally = table.tally or Tally()
        papers.setdefault((table.spec.paper, table.protocol), []).append(tally)
    lines = [
        *_HEAD.splitlines(),
        "",
        "## Papers",
        "",
        "| paper | protocol | cells compared | reproduced | consistent | undecided |"
        " better or worse | by chance | claims upheld | contradicted | undecided | incomplete |"
        " not judged |",
        f"| --- | --- |{' ---: |' * 11}",
    ]
    for (paper, protocol), tallies in papers.items():
        t = add(tallies)
        cells = ["–"] * 6 if protocol != "paper" else _cells(t)
        claims = [t.upheld, t.contradicted, t.claims_undecided, t.claims_partial, t.not_judged]
        name = f"{in_cell(paper_info.title_of(paper))}<br>`{paper}`"
        lines.append(f"| {name} | {protocol} | {' | '.join(map(str, [*cells, *claims]))} |")
    lines += ["", "## Tables", "", "| table | protocol | runs | complete cells | verdicts |"]
    lines.append("| --- | --- | ---: | ---: | --- |")
    for table in sorted(tables, key=lambda t: (t.name, t.protocol != "paper", t.protocol)):
        filled = sum(c.n > 0 and c.n_done >= c.n_planned for c in table.cells.values())
        said = " ".join(formatting.table_tally(table))
        lines.append(
            f"| [{table.name}]({address(table)})<br>{in_cell(table.spec.title)} |"
            f" {table.protocol} | {len(table.records):,} | {filled}/{len(table.cells)} |"
            f" {in_cell(said)} |"
        )
    return "\n".join([*lines, ""])


def _cells(t: Tally) -> list[str]:
    counts = (t.judged, t.reproduced, t.consistent, t.undecided, t.different)
    return [*map(str, counts), f"up to {t.by_chance:.1f}"]
