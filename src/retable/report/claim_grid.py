"""A paper's claims, each once, with its verdict under every protocol that it was tested under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from retable.report import claims_text
from retable.tables.aggregate import Table
from retable.tables.results import JudgedClaim


@dataclass(frozen=True)
class Line:
    """A claim of a table.

    Attributes:
        table: name, without the paper.
        id: of the claim.
        statement: with the mark of its grade.
        found: what came out by protocol: the place among the tables, and the claim.
    """

    table: str
    id: str
    statement: str
    found: dict[str, tuple[int, JudgedClaim]] = field(
        default_factory=dict[str, tuple[int, JudgedClaim]]
    )


@dataclass(frozen=True)
class Grid:
    """Claims by protocol.

    Attributes:
        protocols: those under which some claim stands, in the order of the tables.
        lines: in the order in which they are met.
        legend: what the marks behind the statements mean.
    """

    protocols: list[str]
    lines: list[Line]
    legend: str

    @property
    def below(self) -> str:
        """What the reader of the lines has to know."""
        empty = any(len(line.found) < len(self.protocols) for line in self.lines)
        gap = "–: nothing of its table is published under that protocol." if empty else ""
        return " ".join(filter(None, ("Verdicts by protocol.", gap, self.legend)))


def grid(tables: Sequence[Table]) -> Grid:
    """Claims of a paper's tables.

    Args:
        tables: judged, protocol by protocol.
    """
    lines: dict[tuple[str, str], Line] = {}
    for number, table in enumerate(tables):
        for claim in table.claims:
            shown = claims_text.cells(claim)
            of = table.name.partition("/")[2]
            line = lines.setdefault((of, claim.id), Line(of, claim.id, shown[1]))
            line.found[table.protocol] = (number, claim)
    protocols = dict.fromkeys(table.protocol for table in tables if table.claims)
    claims = [claim for table in tables for claim in table.claims]
    return Grid(list(protocols), list(lines.values()), claims_text.grades(claims))
