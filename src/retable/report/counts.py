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


def of(table: Table) -> Counts:
    """Verdicts of a table; all zero where nobody has judged."""
    return _with(table.tally or Tally(), table.claims)


def together(tables: Iterable[Table]) -> Counts:
    """Verdicts of tables; a reported number that several of them have counts in one alone."""
    several = list(tables)
    claims = [claim for table in several for claim in table.claims]
    return _with(add(map(_once_each, several)), claims)


def once(tables: Iterable[Table]) -> Counts:
    """The same, with a claim that was tested under several protocols under the first alone."""
    several = list(tables)
    first: dict[tuple[str, str], JudgedClaim] = {}
    for table in several:
        for claim in table.claims:
            first.setdefault((table.name, claim.id), claim)
    claims = list(first.values())
    cells = add(map(_once_each, several))
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


def _once_each(table: Table) -> Tally:
    """A table's verdicts, without those of cells that another table counts."""
    found = table.tally or Tally()
    if not table.spec.counted_in:
        return found
    return Tally(**{name: getattr(found, name) for name in _OF_CLAIMS})


def _with(found: Tally, claims: Sequence[JudgedClaim]) -> Counts:
    nothing = sum(claim.verdict == "partial" and claim.text == "not run" for claim in claims)
    return Counts(**asdict(found), claims_not_run=nothing)
