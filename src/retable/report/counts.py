"""Verdicts of several tables counted, claims of which nothing was run apart from the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from retable.tables.aggregate import Table
from retable.tables.results import JudgedClaim, Tally
from retable.tables.verdicts.judge import add, tally


@dataclass(frozen=True)
class Counts(Tally):
    """Counted verdicts.

    Attributes:
        claims_not_run: those of ``claims_partial`` of which some number has no run at all; of the
            others some runs are missing.
    """

    claims_not_run: int = 0

    @property
    def claims_incomplete(self) -> int:
        """Claims that have runs and wait for more."""
        return self.claims_partial - self.claims_not_run


def of(tables: Iterable[Table]) -> Counts:
    """Verdicts of tables together; all zero where nobody has judged."""
    several = list(tables)
    claims = [claim for table in several for claim in table.claims]
    return _with(add(table.tally or Tally() for table in several), claims)


def once(tables: Iterable[Table]) -> Counts:
    """The same, with a claim that was tested under several protocols under the first alone."""
    several = list(tables)
    first: dict[tuple[str, str], JudgedClaim] = {}
    for table in several:
        for claim in table.claims:
            first.setdefault((table.name, claim.id), claim)
    claims = list(first.values())
    cells = add(table.tally or Tally() for table in several)
    own = tally([], claims)
    kept = {name: getattr(own, name) for name in _OF_CLAIMS}
    return _with(replace(cells, **kept), claims)


_OF_CLAIMS = (
    "upheld",
    "contradicted",
    "claims_undecided",
    "claims_partial",
    "not_judged",
    "against",
)


def _with(found: Tally, claims: Sequence[JudgedClaim]) -> Counts:
    nothing = sum(claim.verdict == "partial" and claim.text == "not run" for claim in claims)
    return Counts(**asdict(found), claims_not_run=nothing)
