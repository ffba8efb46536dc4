"""The settings that a cell's was chosen from, with what each of them came to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from retable.tables.aggregate import Cell
from retable.tables.select import Candidate, Selection
from retable.util.text import short_key


@dataclass(frozen=True)
class Shown:
    """A candidate as outputs show it.

    Attributes:
        values: that are set, by dotted key.
        text: the same in words.
        score: mean of the metric over the tuning seeds; None where there is none.
        status: ``done``, ``diverged`` (it cannot be chosen), or ``partial``: runs are missing.
        chosen: whether it is the cell's setting.
        keys: of its runs, by seed.
    """

    values: dict[str, Any]
    text: str
    score: float | None
    status: str
    chosen: bool
    keys: dict[int, str]

    @property
    def said(self) -> str:
        """The score, or why there is none."""
        return f"{self.score:.4g}" if self.score is not None else self.status


def of(cell: Cell) -> list[Shown]:
    """All settings that a cell's was or is to be chosen from; none where it chooses nothing."""
    chosen = cell.selection
    if chosen is None:
        return []
    return [_shown(chosen, n, candidate) for n, candidate in enumerate(chosen.candidates)]


def _shown(selection: Selection, number: int, candidate: Candidate) -> Shown:
    score = candidate.score
    status = "partial" if score is None else "diverged" if math.isnan(score) else "done"
    return Shown(
        values=candidate.values,
        text=candidate.text(),
        score=score if status == "done" else None,
        status=status,
        chosen=number == selection.chosen,
        keys=dict(zip(selection.seeds, candidate.setting.keys(selection.seeds), strict=True)),
    )


def as_json(cell: Cell) -> list[dict[str, Any]]:
    """Plain values."""
    return [
        {
            "set": one.values,
            "score": one.score,
            "status": one.status,
            "chosen": one.chosen,
            "runs": [{"key": key, "seed": seed} for seed, key in one.keys.items()],
        }
        for one in of(cell)
    ]


def lines(cell: Cell) -> list[str]:
    """Their list for a terminal; empty where the cell chooses nothing."""
    found = of(cell)
    if not found or cell.selection is None:
        return []
    better = "largest" if cell.selection.direction == "max" else "smallest"
    said = [f"candidates by {cell.selection.by}, the {better} mean over the tuning seeds:"]
    width = max(len(one.text) for one in found)
    for one in found:
        runs = ", ".join(f"seed {seed} {short_key(key)}" for seed, key in one.keys.items())
        chosen = "  chosen" if one.chosen else ""
        said.append(f"    {one.text:{width}}  {one.said:>8}  {runs}{chosen}")
    return said
