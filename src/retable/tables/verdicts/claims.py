"""A paper's claims, tested on the cells of a table.

Every claim becomes weighted sums of cells, each of which has to be positive. Which sums,
by kind, is in :mod:`retable.tables.verdicts.claim_contrasts`; how a sum is tested in
:mod:`retable.tables.verdicts.contrast`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from retable.tables.claim_spec import Claim
from retable.tables.results import (
    ClaimVerdict,
    Comparison,
    Effect,
    JudgedClaim,
    Ratio,
    Wins,
)
from retable.tables.verdicts import contrast as tests
from retable.tables.verdicts.claim_arms import (
    absent,
    arm_of,
    is_heavy_sum,
    is_ours,
    marks_of,
    reported_stds,
)
from retable.tables.verdicts.claim_contrasts import (
    Sum,
    column_title,
    columns_of,
    from_ideal,
    ideal_of,
    margin_of,
    metric_of,
    others_of,
    quotient_of,
    row_title,
    sums_of,
)
from retable.tables.verdicts.claim_function import function_of, said_by
from retable.tables.verdicts.contrast import Arm
from retable.tables.verdicts.fieller import fieller
from retable.tables.verdicts.multiplicity import all_of
from retable.tables.verdicts.needed import needed_of
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.tables.aggregate import Cell, Table

_NOTHING = ("not run", "not recorded")
"""What is said of a claim for which some cell has no number, and nothing was lost on the way."""


def judge_claim(table: Table, claim: Claim, *, alpha: float = 0.05) -> JudgedClaim:
    """Judge one claim by a table's cells.

    Args:
        table: with its cells.
        claim: of the table's file.
        alpha: one-sided level; less than 5 % where several looks share it.

    Raises:
        UserError: where the claim names a function that the paper does not have.
    """
    base = JudgedClaim(
        claim.id,
        claim.statement,
        claim.where or "",
        claim.grade,
        claim.kind,
        "not judged",
        "not judged",
        why=claim.why_not_judged,
        weighted=_weighted(claim),
    )
    if claim.kind == "not_judged":
        return base
    elsewhere = claim.not_in.get(table.protocol)
    if table.protocol == "smoke":
        elsewhere = "protocol smoke runs on generated data"
    sums = sums_of(table, claim)
    cells = cells_of(table, claim, sums)
    rule = "; ".join(s.text(table) for s in sums) if sums else _rule_without_sums(table, claim)
    unit = "" if base.weighted else _unit(table, cells)
    says = _comparisons(table, claim, sums)
    base = replace(
        base, rule=rule, marks=marks_of(table, cells), unit=unit, why=None, comparisons=says
    )
    waiting = _waiting(table, claim, sums, cells)
    elsewhere = elsewhere or _not_planned(table, claim, sums) or absent(table, cells)
    if waiting in _NOTHING:
        base = replace(base, marks=[])
    if waiting in _NOTHING or (waiting and any(cell.n == 0 for cell in cells if is_ours(cell))):
        if elsewhere is not None:
            return replace(base, why=elsewhere)
        return replace(base, verdict="partial", text=waiting)
    if waiting and claim.kind == "function" and not _numbers(table, claim, cells):
        return replace(base, verdict="partial", text=waiting)
    if claim.kind == "ratio" and (below := _not_positive(table, claim, sums)):
        why = f"a ratio compares numbers above 0, and {below} is not"
        return replace(base, why=elsewhere or why)
    found = _tested(table, claim, sums, cells, alpha)
    verdict, p = _together(claim, found)
    weakest = max((effect for effect, _ in found), key=_weakness)
    judged = replace(
        base,
        verdict=verdict,
        text=verdict,
        effect=weakest,
        p=p,
        wins=_wins(table, claim, sums),
        ratio=_ratio(table, claim),
        comparisons=[
            replace(one, effect=effect, verdict=said)
            for one, (effect, said) in zip(says, found, strict=True)
        ],
        why="not known" if verdict == "contradicted" else None,
    )
    if elsewhere is not None:
        return replace(judged, verdict="not judged", text="not judged", why=elsewhere, p=None)
    if waiting:
        return replace(judged, verdict="partial", text=waiting, why=None)
    return replace(judged, needed=needed_of(table, claim, judged, cells, alpha))


def _weakness(effect: Effect) -> float:
    return -math.inf if effect.p is None else effect.p


def cells_of(table: Table, claim: Claim, sums: Sequence[Sum]) -> list[Cell]:
    """Cells that the claim is about, each once; those that do not exist are left out."""
    return [table.cells[p] for p in dict.fromkeys(_places(table, claim, sums)) if p in table.cells]


def _places(table: Table, claim: Claim, sums: Sequence[Sum]) -> list[tuple[str, str]]:
    if sums:
        return [(row, column) for s in sums for _, row, column in s.terms]
    rows = claim.rows() or (list(table.spec.rows) if claim.kind == "function" else [])
    return [(row, column) for row in rows for column in columns_of(table, claim)]


def _not_planned(table: Table, claim: Claim, sums: Sequence[Sum]) -> str | None:
    """Why no run of this protocol can decide the claim; None where some can."""
    places = [(row, column) for s in sums for _, row, column in s.terms]
    places += [(row, column) for row in claim.rows() for column in claim.columns()]
    for row, column in dict.fromkeys(places):
        here, paper = (table.spec.experiment(column, p, row) for p in (table.protocol, "paper"))
        if table.spec.rows[row].runs_in(column) and here is None and paper is not None:
            of_all = table.spec.experiment(column, table.protocol) is None
            part = table.spec.columns[column] if of_all else table.spec.rows[row]
            name = part.title or (column if of_all else row)
            return f"protocol {table.protocol} does not run {name}"
    return None


def _waiting(table: Table, claim: Claim, sums: Sequence[Sum], cells: Sequence[Cell]) -> str | None:
    """Why the claim cannot be judged yet: ``not run``, ``not recorded``, ``partial 3/5`` ...

    Runs that were started for every cell and gave no number of one are no claim that was not
    run: a row all runs of which diverged is ``diverged 5/5``.
    """
    places = [] if claim.kind == "function" else _places(table, claim, sums)
    if not cells or any(place not in table.cells for place in places):
        return "not run"
    ours = [cell for cell in cells if is_ours(cell)]
    if empty := [cell for cell in ours if cell.n == 0]:
        unfinished = [cell for cell in empty if cell.n_planned and not cell.n_done]
        if not unfinished:
            return "not recorded"
        if not all(cell.ended for cell in unfinished):
            return "not run"
    # What would be run under another protocol is no row that can only be quoted.
    rows = table.spec.rows
    if not ours or any(not is_ours(c) and rows[c.row].runs_in(c.column) for c in cells):
        return "not run"
    for status in ("diverged", "failed", "timeout"):
        worst = max(ours, key=lambda cell: cell.ended.get(status, 0))
        if worst.ended.get(status):
            return f"{status} {worst.ended[status]}/{worst.n_planned}"
    least = min(ours, key=lambda cell: cell.n_done / cell.n_planned)
    if least.n_done < least.n_planned:
        return f"partial {least.n_done}/{least.n_planned}"
    return None


def _not_positive(table: Table, claim: Claim, sums: Sequence[Sum]) -> str | None:
    """Number that a ratio cannot be of: a larger one would be no multiple of it."""
    for _, row, column in (term for one in sums for term in one.terms):
        if arm_of(table, claim, (1.0, row, column)).mean <= 0:
            return f"{row_title(table, row)} at {column_title(table, column)}"
    return None


def _tested(
    table: Table, claim: Claim, sums: Sequence[Sum], cells: Sequence[Cell], alpha: float
) -> list[tuple[Effect, ClaimVerdict]]:
    """Effect and verdict of each of :func:`_comparisons`."""
    if claim.kind == "function":
        if not (values := _numbers(table, claim, cells)):
            raise UserError(f"{table.name}: claims.{claim.id}.function: gave no number of any seed")
        effect = tests.contrast([Arm(1.0, dict(values), None)], alpha=alpha)
        return [(effect, tests.conclude(effect))]
    if claim.kind in {"tie", "spread"}:
        return [_pair(table, claim, column, alpha) for column in columns_of(table, claim)]
    found: list[tuple[Effect, ClaimVerdict]] = []
    for one in sums:
        metrics = [metric_of(table, c) for _, _, c in one.terms]
        fixed = all(metric.deterministic for metric in metrics)
        quanta = {metric.quantum for metric in metrics}
        heavy = is_heavy_sum(table, one)
        effect = tests.contrast(
            [arm_of(table, claim, term) for term in one.terms],
            one.c0,
            quantum=quanta.pop() if len(quanta) == 1 else None,
            alpha=alpha,
            paired=False if heavy else None,
            deterministic=fixed,
            least_std=reported_stds(table, one) if heavy else (),
        )
        # At least is at least: where nothing is estimated, a number may lie on its bound.
        if fixed and effect.theta == 0 and claim.kind in {"threshold", "ratio", "not_worse"}:
            found.append((replace(effect, p=0.0), "upheld"))
        else:
            found.append((effect, tests.conclude(effect)))
    return found


def _numbers(table: Table, claim: Claim, cells: Sequence[Cell]) -> Mapping[int, float]:
    """What the claim's function gives; nothing where cells have no seed in common yet, say."""
    return function_of(table, claim)({(c.row, c.column): c.values for c in cells})


def _comparisons(table: Table, claim: Claim, sums: Sequence[Sum]) -> list[Comparison]:
    """What a claim says, one by one, before anything is tested."""
    if sums:
        return [Comparison(s.subject, s.relation, s.place, s.formula(table)) for s in sums]
    if claim.kind == "function":
        own = _rule_without_sums(table, claim)
        return [Comparison(f"the mean of {claim.function}", "above 0", "", own)]
    assert claim.better is not None
    (other,) = others_of(claim)
    a, b = (row_title(table, row) for row in (claim.better, other))
    found: list[Comparison] = []
    for column in columns_of(table, claim):
        relation, tested = f"less spread than {b}", _rule_without_sums(table, claim)
        if claim.kind == "tie":
            margin = margin_of(table, claim, column)
            ideal = ideal_of(table, claim, column)
            relation = f"within {margin:.4g} of {b}"
            tested = f"|{from_ideal(a, ideal)} − {from_ideal(b, ideal)}| < {margin:.4g}"
        found.append(Comparison(a, relation, column_title(table, column), tested))
    return found


def _pair(table: Table, claim: Claim, column: str, alpha: float) -> tuple[Effect, ClaimVerdict]:
    assert claim.better is not None
    (other,) = others_of(claim)
    a, b = ((1.0, claim.better, column), (-1.0, other, column))
    if claim.kind == "tie":
        arms = [arm_of(table, claim, a), arm_of(table, claim, b)]
        metric = metric_of(table, column)
        return tests.tie(
            arms,
            margin_of(table, claim, column),
            alpha=alpha,
            quantum=metric.quantum,
            deterministic=metric.deterministic,
        )
    first, second = (table.cells[row, column].values for _, row, _ in (a, b))
    effect = tests.spread_effect(list(first.values()), list(second.values()), alpha)
    return effect, tests.conclude(effect)


def _together(
    claim: Claim, found: Sequence[tuple[Effect, ClaimVerdict]]
) -> tuple[ClaimVerdict, float | None]:
    if len(found) == 1:
        effect, verdict = found[0]
        return verdict, effect.p
    verdicts: list[ClaimVerdict] = [verdict for _, verdict in found]
    if claim.kind == "tie" or all(effect.df is None for effect, _ in found):
        ps = [effect.p for effect, _ in found if effect.p is not None]
        p = max(ps) if len(ps) == len(found) else None
        if all(v == "upheld" for v in verdicts):
            return "upheld", p
        return ("contradicted" if "contradicted" in verdicts else "undecided"), p
    return all_of([effect for effect, _ in found], verdicts)


def _wins(table: Table, claim: Claim, sums: Sequence[Sum]) -> Wins | None:
    """Seeds on which every sum of the claim is positive; only where all arms are ours."""
    per_sum: list[dict[int, float]] = []
    for one in sums:
        arms = [arm_of(table, claim, term) for term in one.terms]
        if any(arm.values is None for arm in arms):
            return None
        values = tests.sums(arms, one.c0)
        sure = all(metric_of(table, column).deterministic for _, _, column in one.terms)
        if not sure or min(values.values(), default=0.0) < 0:  # else it holds on every seed
            per_sum.append(values)
    seeds = set[int].intersection(*map(set, per_sum)) if per_sum else set[int]()
    if not seeds:
        return None
    return tests.wins([min(values[seed] for values in per_sum) for seed in sorted(seeds)])


def _ratio(table: Table, claim: Claim) -> Ratio | None:
    """The printed ratio of a claim about one: of the averages where it is about those."""
    columns = columns_of(table, claim)
    if claim.kind != "ratio" or claim.also or not (claim.average or len(columns) == 1):
        return None
    sides: list[dict[int, float]] = []
    for side in (0, 1):
        cells = [table.cells[quotient_of(table, claim, c)[side], c] for c in columns]
        if not all(is_ours(cell) for cell in cells):
            return None
        common = set.intersection(*(set(cell.values) for cell in cells))
        sides.append({s: math.fsum(c.values[s] for c in cells) / len(cells) for s in common})
    return fieller(sides[0], sides[1]) if all(sides) else None


def _weighted(claim: Claim) -> bool:
    """Whether positions are factors of what is tested, which then has not the numbers' unit."""
    return claim.kind == "trend" and not claim.each_step


def _unit(table: Table, cells: Sequence[Cell]) -> str:
    units = {metric_of(table, cell.column).unit for cell in cells}
    return units.pop() if len(units) == 1 else ""


def _rule_without_sums(table: Table, claim: Claim) -> str:
    if claim.kind == "function":
        return f"{claim.function} ({said_by(table, claim)}): its mean over the seeds > 0"
    if claim.kind == "spread":
        return "mean of |value − median|: than − better > 0, from 10 runs on"
    return "difference within the margin in either direction"
