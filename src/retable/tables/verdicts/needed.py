"""What would decide a claim that is undecided: how many seeds, and what they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from retable.runs.record_set import Found
from retable.tables.claim_spec import Claim
from retable.tables.results import JudgedClaim, Needed
from retable.tables.verdicts.claim_arms import is_ours
from retable.tables.verdicts.claim_contrasts import margin_of
from retable.tables.verdicts.power import needed_claim, needed_tie

if TYPE_CHECKING:
    from retable.tables.aggregate import Cell, Table


def needed_of(
    table: Table, claim: Claim, judged: JudgedClaim, cells: Sequence[Cell], alpha: float
) -> Needed | None:
    """Seeds that would decide; None where it is decided, or part of the error is not ours.

    Their hours are those of all runs of a seed behind the cells, one after another, as the runs
    that are there have taken; cells that show the same run count it once.
    """
    effect = judged.effect
    ours = all(is_ours(cell) for cell in cells)
    if judged.verdict != "undecided" or effect is None or effect.std is None or not ours:
        return None
    if effect.n < 2:
        return None
    if claim.kind == "tie":
        margin = margin_of(table, claim, cells[0].column)
        found = needed_tie(effect.theta, effect.std, margin, alpha=alpha)
    else:
        found = needed_claim(effect.theta, effect.std, alpha=alpha)
    keys = dict.fromkeys(key for cell in cells for key in cell.run_keys)
    if found.n is None or found.n <= effect.n or not keys:
        return found
    records = Found.of(table.records)
    a_seed = records.columns.wall_s[records.numbers(keys)].sum() / max(cell.n for cell in cells)
    return replace(found, hours=float((found.n - effect.n) * a_seed / 3600))
