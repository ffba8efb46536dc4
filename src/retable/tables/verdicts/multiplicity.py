"""Many tests at once: adjusted p, claims of several parts, the best row of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retable.tables.results import ClaimVerdict, Effect
from retable.tables.verdicts.cell import Direction
from retable.tables.verdicts.contrast import Arm, conclude, contrast

BOLD_LEVEL = 0.05
"""Two-sided level at which the best row of a column has to beat every other."""


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p of each of several tests (Holm 1979), in the order given.

    p_(i) (N - i + 1) of the i-th smallest, as a running maximum, at most 1.
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, ps[place] * (len(ps) - rank))
        adjusted[place] = min(highest, 1.0)
    return adjusted


def all_of(
    effects: Sequence[Effect], verdicts: Sequence[ClaimVerdict] | None = None
) -> tuple[ClaimVerdict, float | None]:
    """A claim that several sums are all positive: verdict and p.

    Upheld if every part is, at p = the largest, without a correction (Berger 1982). Contradicted
    if the smallest p against a part, times the number of parts, is at most the level.

    Args:
        effects: of the parts, one at least, all at the same level.
        verdicts: of the parts, where they do not follow from the effects alone, as that of a number
            without an error that lies on its bound.
    """
    ps = [effect.p for effect in effects]
    p = None if None in ps else max(p for p in ps if p is not None)
    verdicts = [conclude(effect) for effect in effects] if verdicts is None else verdicts
    if all(verdict == "upheld" for verdict in verdicts):
        return "upheld", p
    against = [
        effect.p_against
        for effect, verdict in zip(effects, verdicts, strict=True)
        if verdict == "contradicted" and effect.p_against is not None
    ]
    level = min(effect.alpha for effect in effects)
    return ("contradicted" if against and min(against) * len(effects) <= level else "undecided"), p


def best(
    rows: Mapping[str, Mapping[int, float]],
    direction: Direction,
    *,
    ideal: float | None = None,
    quantum: float | None = None,
    deterministic: bool = False,
    level: float = BOLD_LEVEL,
) -> str | None:
    """The best row of a column, if it beats every other; else None.

    Args:
        rows: values by seed, by row; rows without a value are left out.
        direction: whether small or large is better.
        ideal: value that is best, instead of a direction: distances from it are compared.
        quantum: smallest step of the metric.
        deterministic: whether the values are the same for every seed.
        level: two-sided, of each comparison; less than 5 % where several looks share it.
    """
    if ideal is None and direction == "none":
        return None
    sign = 1.0 if ideal is None and direction == "max" else -1.0
    found = {
        row: {seed: x if ideal is None else abs(x - ideal) for seed, x in values.items()}
        for row, values in rows.items()
        if values
    }
    if len(found) < 2:
        return None
    first = max(found, key=lambda row: sign * Arm(1.0, found[row]).mean)
    for row, values in found.items():
        if row == first:
            continue
        arms = [Arm(sign, found[first]), Arm(-sign, values)]
        effect = contrast(arms, quantum=quantum, alpha=level / 2, deterministic=deterministic)
        if conclude(effect) != "upheld":
            return None
    return first
