"""Presentation of verdicts on the site beside the words: colours, addresses, small numbers.

Signs and words are those of every output, from :mod:`retable.report.formatting`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from retable.report import claims_text, counts, formatting
from retable.report.counts import Counts
from retable.tables.aggregate import Cell, Table
from retable.tables.results import DIFFERENT, ClaimVerdict, JudgedClaim

_KEPT = re.compile(r"[^A-Za-z0-9_-]")
_KEY = re.compile(r"\b[0-9a-f]{12,64}\b")

CLAIM_SIGN: dict[ClaimVerdict, str] = {
    "upheld": "✓",
    "contradicted": "✕",
    "undecided": "?",
    "partial": "…",
    "not judged": "–",
}
GRADES = {
    "primary": "from the paper or its authors' material",
    "secondhand": "as quoted by somebody else; not verified",
    "recalled": "from memory of the literature; not verified",
    "derived": "computed from reported values; not printed by the authors",
}


@dataclass(frozen=True)
class Chip:
    """A verdict as shown.

    Attributes:
        kind: what it counts as.
        sign: readable without colour; empty for what is no verdict on the number.
        text: the verdict in words.
        style: name of its colours; better and worse share one, for neither is the paper's number.
    """

    kind: str
    sign: str
    text: str
    style: str


def cell_chip(cell: Cell) -> Chip | None:
    """Verdict of a cell; None where there is nothing to compare."""
    judged = cell.judged
    if judged is None or judged.kind in ("no reported value", "not run"):
        return None
    style = "different" if judged.kind in DIFFERENT else judged.kind
    known = ("different", "reproduced", "consistent", "undecided")
    return Chip(
        judged.kind,
        formatting.SIGN.get(judged.kind, ""),
        formatting.worded(judged.text),
        style if style in known else "quiet",
    )


def claim_chip(claim: JudgedClaim) -> Chip:
    """Verdict of a claim, in the colours of cells that say as much."""
    styles = {"upheld": "reproduced", "contradicted": "different", "undecided": "undecided"}
    style = styles.get(claim.verdict, "quiet")
    return Chip(claim.verdict, CLAIM_SIGN[claim.verdict], claims_text.verdict(claim), style)


def tally_of(table: Table) -> Counts:
    """Counted verdicts; all zero where nobody has judged."""
    return counts.of(table)


def p_value(p: float | None) -> str:
    """A p value; an en dash where there is none."""
    return formatting.p_value(p) or "–"


def small(value: float) -> str:
    """A number of three digits."""
    return formatting.minus(formatting.significant(value))


def hours(value: float) -> str:
    """Hours, to a tenth where there are few."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.1 else "<0.1"


def interval(value: float, low: float | None, high: float | None) -> str:
    """A number and the bounds around it."""
    return formatting.interval(value, low, high)


def slug(name: str) -> str:
    """A name as part of an address: other characters as ``~`` and their code, so none collide."""
    return _KEPT.sub(lambda found: f"~{ord(found[0]):x}~", name)


def paper_page(paper: str) -> str:
    """A paper's page."""
    return f"papers/{slug(paper)}.html"


def claims_page(paper: str) -> str:
    """Page of a paper's claims."""
    return f"claims/{slug(paper)}.html"


def claim_anchor(stem: str, claim: str) -> str:
    """Address of a claim within its paper's page of claims, by its table's stem."""
    return f"{slug(stem)}.{slug(claim)}"


def cell_anchor(row: str, column: str) -> str:
    """Address of a cell within its table's page."""
    return f"{slug(row)}.{slug(column)}"


def link(url: str | None) -> str | None:
    """An address that may become a link: plain http only, never ``javascript:``."""
    return url if url and re.fullmatch(r"https?://[^\s\"'<>]+", url) else None


def with_runs(said: str, pages: Mapping[str, str]) -> Iterable[tuple[str, str | None]]:
    """A text in pieces, the keys in it with the pages of their runs.

    Args:
        said: such as a cause that names the run which tests it.
        pages: a run's page by the first twelve characters of its key.
    """
    end = 0
    for found in _KEY.finditer(said):
        page = pages.get(found[0][:12])
        if page is not None:
            yield said[end : found.start()], None
            yield found[0], page
            end = found.end()
    yield said[end:], None
