"""Sentences on what came out of a paper, which name the claims and cells that they rest on.

``{cpu_time C1 contradicted}`` is a claim with the verdict that the sentence takes it to have, and
becomes a link; ``{iterations improved/t1_n25}`` is a cell, and becomes our number with its unit;
``{cpu_time C1 ratio}`` becomes the ratio of the two means that the claim is about. A table of
another protocol than ``paper`` is ``table@protocol``. A sentence whose claim is judged otherwise by
now, or whose number is gone, is not shown: what is out of date stands there instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retable.report import formatting
from retable.report.markdown import in_cell
from retable.tables.aggregate import Cell, Table
from retable.tables.results import CellId
from retable.tables.spec import Metric

_REFERENCE = re.compile(r"\{([\w-]+)(?:@([\w-]+))? ([^\s{}]+)(?: ([a-z ]+))?\}")
Known = Mapping[tuple[str, str], tuple[Table, str]]


@dataclass(frozen=True)
class Piece:
    """Words of a sentence, or what it rests on.

    Attributes:
        text: as it is read.
        page: address of the table that it leads to; empty of mere words.
        claim: of that table; empty where it is none.
        cell: of that table; None where it is none.
    """

    text: str
    page: str = ""
    claim: str = ""
    cell: CellId | None = None


@dataclass(frozen=True)
class Finding:
    """A sentence of a paper's page.

    Attributes:
        pieces: the sentence; none where something of it does not hold any more.
        outdated: what that is; empty where all holds.
    """

    pieces: list[Piece]
    outdated: list[str]

    @property
    def text(self) -> str:
        """Markdown."""
        if self.outdated:
            return f"*({self.gone})*"
        return "".join(f"[{p.text}]({p.page})" if p.page else _said(p.text) for p in self.pieces)

    @property
    def gone(self) -> str:
        """What stands in the place of a sentence that does not hold any more."""
        return f"A sentence is out of date: {'; '.join(self.outdated)}."


def findings(
    sentences: Sequence[str], tables: Sequence[Table], pages: Sequence[str]
) -> list[Finding]:
    """Sentences with their references resolved.

    Args:
        sentences: of ``paper.yaml``.
        tables: published and judged.
        pages: address of each.
    """
    known = {
        (table.name.partition("/")[2], table.protocol): (table, page)
        for table, page in zip(tables, pages, strict=True)
    }
    return [_finding(sentence, known) for sentence in sentences]


def _finding(sentence: str, known: Known) -> Finding:
    pieces: list[Piece] = []
    outdated: list[str] = []
    at = 0
    for found in _REFERENCE.finditer(sentence):
        resolved, wrong = _resolved(found, known)
        pieces += [Piece(sentence[at : found.start()]), *resolved]
        outdated += [wrong] if wrong else []
        at = found.end()
    return Finding([] if outdated else [*pieces, Piece(sentence[at:])], outdated)


def _said(text: str) -> str:
    """Text between references, with the blanks at its ends."""
    inner = text.strip()
    return text.replace(inner, in_cell(inner)) if inner else text


def _number(cell: Cell, metric: Metric) -> str:
    """Such as ``17.9 ± 3.6 % (5 seeds)``: in a sentence no heading says what it is."""
    ours = formatting.ours(cell, metric)
    unit = f" {metric.unit}" if metric.unit else ""
    return re.sub(r"(?: \(([\d/]+)\))?$", lambda m: f"{unit}{_seeds(m[1])}", ours, count=1)


def _seeds(n: str | None) -> str:
    return "" if n is None else f" ({n} seed{'' if n == '1' else 's'})"


def _resolved(reference: re.Match[str], known: Known) -> tuple[list[Piece], str]:
    """Pieces in place of a reference, and what is wrong with it."""
    name, protocol, what, verdict = reference.groups()
    table, page = known.get((name, protocol or "paper"), (None, ""))
    if table is None:
        return [], f"nothing is published of {name}, protocol {protocol or 'paper'}"
    if "/" in what:
        row, _, column = what.partition("/")
        cell = table.cells.get((row, column))
        if cell is None or cell.mean is None:
            return [], f"{name} has no number at {what}"
        return [Piece(_number(cell, table.spec.metrics[cell.metric]), page, cell=(row, column))], ""
    claim = next((one for one in table.claims if one.id == what), None)
    if claim is None:
        return [], f"{name} has no claim {what}"
    if verdict == "ratio":
        if claim.ratio is None:
            return [], f"{what} of {name} has no ratio"
        return [Piece(formatting.significant(claim.ratio.value), page, claim=what)], ""
    if claim.verdict != verdict:
        taken = f"it takes {what} of {name} to be {verdict}" if verdict else f"{what} of {name}"
        return [], f"{taken}, which is {claim.verdict}"
    return [Piece("("), Piece(what, page, claim=what), Piece(f" {verdict})")], ""
