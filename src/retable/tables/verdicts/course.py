"""Looks at a table that is judged several times; how far one is that is run until decided."""

from __future__ import annotations

from dataclasses import dataclass, field

from retable.tables.results import DIFFERENT, CellId, Judged, JudgedClaim

SETTLED = frozenset({"reproduced", *DIFFERENT, "upheld", "contradicted"})
"""Verdicts of cells and claims that are final at the look that gives them."""


TOTAL = 0.05
"""Error that all looks together may spend."""


@dataclass(frozen=True)
class Looks:
    """Numbers of seeds at which a table, or a cell, is looked at.

    Attributes:
        seeds: ascending; the last is the most there may be.
        fixed: day on which they were, before the first run that they decide on.
    """

    seeds: list[int]
    fixed: str

    @property
    def alphas(self) -> list[float]:
        """Level that each look spends; 5 % in all."""
        from retable.tables.verdicts.power import (
            alphas,  # scipy, which tables without looks do not need
        )

        return alphas(self.seeds)


@dataclass(frozen=True)
class Course:
    """Progress of a table that is run until it is decided.

    Attributes:
        taken: looks that are complete.
        seeds: of each cell, how many it has been looked at with.
        cells: verdicts at the last look of each cell that is compared.
        claims: the same for claims, by id.
        settled: at which look (from 1), by place or id.
        dropped: those given up because more seeds would hardly decide them, and at which look.
        needed: cells that the next look needs, and with how many seeds; empty where it is over.
    """

    looks: Looks
    taken: int = 0
    seeds: dict[CellId, int] = field(default_factory=dict[CellId, int])
    cells: dict[CellId, Judged] = field(default_factory=dict[CellId, Judged])
    claims: dict[str, JudgedClaim] = field(default_factory=dict[str, JudgedClaim])
    settled: dict[CellId | str, int] = field(default_factory=dict["CellId | str", int])
    dropped: dict[CellId | str, int] = field(default_factory=dict["CellId | str", int])
    needed: dict[CellId, int] = field(default_factory=dict[CellId, int])

    @property
    def spent(self) -> float:
        """Error spent so far."""
        return sum(self.looks.alphas[: self.taken])

    def text(self) -> str:
        """Note that has to stand with the table."""
        seeds = ", ".join(map(str, self.looks.seeds))
        return (
            f"Run until decided: looks at {seeds} seeds, fixed on {self.looks.fixed} before the"
            f" first run; {self.taken} of {len(self.looks.seeds)} taken, α spent {self.spent:.4f}"
            f" of 0.05; {len(self.settled)} cells and claims settled, {len(self.dropped)} dropped"
            " because more seeds would hardly decide them. Intervals are at level 1 − α of their"
            " look. A mean at which one stopped is slightly too extreme."
        )
