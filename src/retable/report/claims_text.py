"""Judged claims as text and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from retable.report import claim_sentences, counts, footnotes, formatting
from retable.tables.aggregate import Table
from retable.tables.results import JudgedClaim, Needed, Ratio
from retable.tables.verdicts.course import TOTAL
from retable.util.text import duration

HEADINGS = (
    "id",
    "statement",
    "where",
    "verdict",
    "effect [90 % interval]",
    "p",
    "p (Holm)",
    "wins",
    "seeds needed",
)
NUMBERS = (5, 6, 7)
"""Of the headings, those above numbers, which stand at the right."""

_WINS = (
    " Wins: on how many seeds the sum (the least of several) is positive, of those on which it is"
    " not 0: ties count in neither number."
)

_INCOMPLETE = (
    " Where runs are missing the effect is of all there are, and wins are of the seeds that each of"
    " its numbers has."
)

_TREND = (
    " Of a trend over all its points at once it is the sum of the numbers, each times how far its"
    " position lies from the mean one, and has no unit."
)

_HOLM = " Holm: p adjusted over all claims of the paper that have one, incomplete ones too."

NEEDED = (
    "seeds that would decide it with a probability of 80 %, if today's numbers are right, and hours"
    " of the runs that are then to be done, one after another."
)
"""What is said of the seeds needed of an undecided claim."""

_ALWAYS = 4
"""Of the headings, those that stand there in any case."""


def legend(claims: Sequence[JudgedClaim]) -> str:
    """Legend of the columns; empty where nothing was tested."""
    if all(claim.effect is None for claim in claims):
        return ""
    holm = any(claim.p_holm is not None for claim in claims)
    shared = any(claim.effect is not None and claim.effect.alpha < TOTAL for claim in claims)
    bounds = "95 % bounds (together a 90 % interval)"
    tested = [claim for claim in claims if claim.effect is not None]
    ties = [claim for claim in tested if claim.kind == "tie"]
    of_sums = " the lower is above 0, contradicted where the upper is below."
    of_ties = " the interval lies within the margin, contradicted where it lies outside."
    besides = f" Of a tie it is the difference: upheld where{of_ties}"
    return (
        "Effect: the tested sum, oriented so that a positive one supports the claim, between its"
        f" two one-sided {'bounds, at the level of its look' if shared else bounds}: upheld where"
        + (of_sums if len(ties) < len(tested) else of_ties)
        + (besides if 0 < len(ties) < len(tested) else "")
        + (_TREND if any(claim.weighted for claim in tested) else "")
        + (" Points are percentage points." if any(c.unit == "%" for c in claims) else "")
        + (" p: one-sided." if any(claim.p is not None for claim in claims) else "")
        + (_HOLM if holm else "")
        + (_WINS if any(claim.wins is not None for claim in claims) else "")
        + (_INCOMPLETE if any(_lacks_runs(claim) for claim in tested) else "")
        + (f" Seeds needed: {NEEDED}" if any(claim.needed is not None for claim in claims) else "")
    )


def _lacks_runs(claim: JudgedClaim) -> bool:
    return claim.verdict == "partial" and claim.wins is not None


def grades(claims: Sequence[JudgedClaim]) -> str:
    """What the marks behind the statements mean, of those that occur; empty where none does."""
    found = {claim.grade for claim in claims}
    said = [note for grade, note in formatting.CLAIM_GRADE_NOTE.items() if grade in found]
    return f"{'. '.join(said)}." if said else ""


def columns(claims: Sequence[JudgedClaim]) -> list[int]:
    """Which of :data:`HEADINGS` some claim has something for."""
    shown = [cells(claim) for claim in claims]
    return [i for i in range(len(HEADINGS)) if i < _ALWAYS or any(line[i] for line in shown)]


def cells(claim: JudgedClaim) -> list[str]:
    """A claim under :data:`HEADINGS`, as plain text."""
    wins = claim.wins
    return [
        claim.id,
        f"{claim.statement}{formatting.GRADE_MARK.get(claim.grade, '')}",
        claim.where,
        verdict(claim),
        effect(claim),
        formatting.p_value(claim.p),
        formatting.p_value(claim.p_holm),
        f"{wins.k} of {wins.n}" if wins is not None else "",
        "" if claim.needed is None else needed(claim.needed),
    ]


def needed(found: Needed) -> str:
    """Seeds that would decide, with the hours of the runs that are still to be done."""
    if found.hours is None:
        return found.text
    return f"{found.text}: {duration(3600 * found.hours)} more"


def verdict(claim: JudgedClaim) -> str:
    """The verdict as shown."""
    return formatting.worded(claim.text)


def effect(claim: JudgedClaim) -> str:
    """The effect with its interval and unit; empty where nothing was tested."""
    return "" if claim.effect is None else claim_sentences.size(claim, claim.effect)


def details(claim: JudgedClaim) -> list[str]:
    """Sentences below the list: what came out of what was compared, marks, the cause."""
    said: list[str] = []
    if claim.verdict == "not judged" and claim.why:
        said.append(f"not judged: {claim.why}")
    if claim.effect is not None and claim.effect.alpha != 0.05:
        said.append(f"bounds at {1 - claim.effect.alpha:.2%} each, as several looks share the 5 %")
    if claim.ratio is not None:
        said.append(f"ratio of the means {_ratio(claim.ratio)}")
    if short := [mark for mark in claim.marks if ":" not in mark]:
        said.append(f"marks of its cells: {', '.join(map(formatting.worded, short))}")
    said += [formatting.worded(mark) for mark in claim.marks if ":" in mark]
    if claim.verdict == "contradicted":
        said.append(footnotes.cause(claim.why))
    elif claim.why and claim.verdict != "not judged":
        said.append(claim.why)
    return [*claim_sentences.outcome(claim), *said]


COMPARED = ("comparison", "where", "tested", "effect [90 % interval]", "verdict")
"""Headings of what a claim's comparisons came to."""


def compared(claim: JudgedClaim) -> list[tuple[str, ...]]:
    """Each comparison of a claim under :data:`COMPARED`."""
    return [
        (
            one.what,
            one.place,
            one.tested,
            "" if one.effect is None else claim_sentences.size(claim, one.effect),
            "" if one.verdict is None or claim.verdict == "not judged" else one.verdict,
        )
        for one in claim.comparisons
    ]


def _ratio(ratio: Ratio) -> str:
    if ratio.low is None and ratio.high is None:
        return f"{formatting.significant(ratio.value)} (its 95 % interval is unbounded)"
    return f"{formatting.interval(ratio.value, ratio.low, ratio.high)} (95 %)"


def as_json(claim: JudgedClaim) -> dict[str, Any]:
    """Everything of a claim as plain values."""
    return asdict(claim)


CLAIM_TYPES: dict[str, type] = {
    **dict.fromkeys(("table", "protocol", "id", "statement", "grade", "kind", "verdict"), str),
    **dict.fromkeys(("theta", "lower", "upper", "alpha", "p", "p_holm"), float),
    **dict.fromkeys(("n", "seeds_needed"), int),
    "hours_needed": float,
    **dict.fromkeys(("unit", "rule", "why"), str),
}
"""Columns of a line per claim; ``theta`` is the effect, positive where it supports the claim."""


def line(table: Table, claim: JudgedClaim) -> dict[str, Any]:
    """A claim's values under :data:`CLAIM_TYPES`; what there is not is left out."""
    effect = {} if claim.effect is None else asdict(claim.effect)
    more = claim.needed
    needed = {} if more is None else {"seeds_needed": more.n, "hours_needed": more.hours}
    own = {name: getattr(claim, name) for name in CLAIM_TYPES if hasattr(claim, name)}
    whole = {**effect, **needed, **own, "table": table.name, "protocol": table.protocol}
    return {name: whole[name] for name in CLAIM_TYPES if name in whole}


def listing(tables: Sequence[Table]) -> str:
    """Claims of some tables as a terminal shows them, table by table."""
    blocks: list[str] = []
    for table in tables:
        if not table.claims:
            continue
        lines = [f"{table.name} (protocol {table.protocol})"]
        for claim in table.claims:
            _, statement, where, verdict, shown, p, p_holm, wins, seeds = cells(claim)
            lines.append(f"  {claim.id}: {verdict}")
            lines.append(f"      {statement}{f' ({where})' if where else ''}")
            numbers = [
                f"effect {shown}" if shown else "",
                f"p {p}" if p else "",
                f"Holm {p_holm}" if p_holm else "",
                f"wins {wins}" if wins else "",
                f"seeds needed: {seeds}" if seeds else "",
            ]
            if any(numbers):
                lines.append(f"      {', '.join(n for n in numbers if n)}")
            lines += [f"      {detail}" for detail in details(claim)]
            if len(claim.comparisons) > 1:
                lines += [f"        {' | '.join(filter(None, c))}" for c in compared(claim)]
        if table.tally is not None:
            lines.append(f"  {formatting.claims_tally(counts.of(table))}")
        blocks.append("\n".join(lines))
    claims = [claim for table in tables for claim in table.claims]
    below = [line for line in (legend(claims), grades(claims)) if line]
    return "\n\n".join([*blocks, *below]) or "no claims"
