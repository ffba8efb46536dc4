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

    Their hours are those of all runs of a seed behind the cells, and of what these start from, one
    after another, as the runs that are there have taken; each run counts once.
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
    a_seed = _seconds(table, list(keys)) / max(cell.n for cell in cells)
    return replace(found, hours=(found.n - effect.n) * a_seed / 3600)


def _seconds(table: Table, keys: list[str]) -> float:
    """What runs have taken, and those that they start from, each once.

    What runs of several seeds start from is there already.
    """
    records = Found.of(table.records)
    total = float(records.columns.wall_s[records.numbers(keys)].sum())
    if not records.columns.began.any():
        return total
    children = [records[key] for key in keys]
    counted = set(keys)
    while children:
        seeds: dict[str, set[int]] = {}
        for child in children:
            if child.started_from is not None and child.started_from.key is not None:
                seeds.setdefault(child.started_from.key, set()).add(child.seed)
        own = [key for key, of in seeds.items() if len(of) == 1 and key not in counted]
        counted.update(own)
        known = (records, table.parents, table.tuning)
        parents = {key: some[key] for key in own for some in known if key in some}
        children = [*parents.values()]
        total += sum(parent.wall_s for parent in children)
    return total
