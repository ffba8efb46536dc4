"""A paper's page: who wrote it, what came out here, its tables and figures, its claims."""

from __future__ import annotations

from collections.abc import Sequence

from retable.report import claim_grid, formatting, paper_page
from retable.report.findings import Piece, findings
from retable.report.not_run import NotRun
from retable.report.site import labels, overview
from retable.report.site.inputs import ShownTable
from retable.report.site.templating import page
from retable.tables import paper_info


def rendered(
    paper: str, members: Sequence[ShownTable], missing: Sequence[NotRun]
) -> tuple[str, str]:
    """The page of a paper, of whose tables these are shown and those were never run."""
    info = paper_info.load(paper)
    tables = [source.table for source in members]
    # Sentences lead to a claim or a cell: the stem of a table's page gives the address of both.
    found = findings(info.found if info else [], tables, [source.stem for source in members])
    return page(
        labels.paper_page(paper),
        "paper.html",
        {
            "paper": paper,
            "info": info,
            "links": paper_page.links(info) if info else [],
            "findings": [(one.gone, _addressed(paper, one.pieces)) for one in found],
            "parts": overview.parts(members),
            "tables": [
                (
                    source,
                    f"{paper_page.complete(source.table)}/{len(source.table.cells)}",
                    " ".join(formatting.table_tally(source.table)),
                )
                for source in members
            ],
            "claims": claim_grid.grid(tables),
            "address": lambda number, claim: _claim(paper, members[number].stem, claim),
            "missing": missing,
        },
    )


def _addressed(paper: str, pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Pieces of a sentence with their addresses; empty those of mere words."""
    return [(piece.text, _address(paper, piece)) for piece in pieces]


def _address(paper: str, piece: Piece) -> str:
    if piece.claim:
        return _claim(paper, piece.page, piece.claim)
    if piece.cell:
        return f"tables/{piece.page}.html#{labels.cell_anchor(*piece.cell)}"
    return ""


def _claim(paper: str, stem: str, claim: str) -> str:
    return f"{labels.claims_page(paper)}#{labels.claim_anchor(stem, claim)}"
