"""The first page: a row for each paper and protocol, its tables below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from retable.report import counts
from retable.report.counts import Counts
from retable.report.not_run import NotRun
from retable.report.site.inputs import ShownTable
from retable.report.site.templating import page
from retable.tables import paper_info
from retable.tables.aggregate import Table
from retable.tables.paper_info import PaperInfo


@dataclass(frozen=True)
class Part:
    """A paper's tables of one protocol together."""

    protocol: str
    tally: Counts
    n_runs: int
    hours: float


@dataclass(frozen=True)
class _Paper:
    """A paper's rows: one for each protocol, and one for each table with its hours and gaps."""

    name: str
    info: PaperInfo | None
    parts: list[Part]
    tables: list[tuple[ShownTable, float, int]]
    n_missing: int

    @classmethod
    def of(cls, paper: str, members: list[ShownTable], missing: list[NotRun]) -> _Paper:
        """A paper, of whose tables these are shown."""
        return cls(
            paper,
            paper_info.load(paper),
            parts(members),
            [(source, hours([source]), not_complete(source.table)) for source in members],
            len({table for one in missing for table in one.tables}),
        )


def rendered(
    papers: Mapping[str, list[ShownTable]],
    missing: Mapping[str, list[NotRun]],
    origin: str,
    count: int,
) -> tuple[str, str]:
    """The page.

    Args:
        papers: tables of each.
        missing: what was never run of each.
        origin: ``results`` or ``runs``.
        count: runs in all.
    """
    sources = [source for members in papers.values() for source in members]
    shown = [_Paper.of(paper, members, missing[paper]) for paper, members in papers.items()]
    total = counts.once(source.table for source in sources)
    return page(
        "index.html",
        "overview.html",
        {
            "papers": shown,
            "n_tables": len(sources),
            "n_runs": count,
            "hours": hours(sources),
            "origin": origin,
            "total": total,
            "n_missing": sum(one.n_missing for one in shown),
        },
    )


def parts(members: Sequence[ShownTable]) -> list[Part]:
    """A paper's tables by protocol, its own first."""
    found: list[Part] = []
    for protocol in dict.fromkeys(source.table.protocol for source in members):
        own = [source for source in members if source.table.protocol == protocol]
        tally = counts.together(source.table for source in own)
        n_runs = len({key for source in own for key in source.records})
        found.append(Part(protocol, tally, n_runs, hours(own)))
    return found


def hours(sources: Iterable[ShownTable]) -> float:
    """Hours of a core that runs took; one that several tables share counts once."""
    took = {key: record.cpu_s for source in sources for key, record in source.records.items()}
    return sum(took.values()) / 3600


def not_complete(table: Table) -> int:
    """Cells that the table runs, of which some run is missing."""
    return sum(cell.n_planned > cell.n_done for cell in table.cells.values())
