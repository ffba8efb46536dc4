"""What came out of a claim, in one sentence that a reader of the paper understands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retable.report import formatting
from retable.tables.results import Comparison, Effect, JudgedClaim
from retable.util.text import enumerated

_NAMED = 2
"""Comparisons of one verdict that are named; of more, how many there are besides."""

_RELATIONS = 3
"""Things said of one subject that fit a sentence."""


def outcome(claim: JudgedClaim) -> list[str]:
    """The sentence; none where nothing was tested, or where it would judge what is not judged."""
    tested = [one for one in claim.comparisons if one.effect is not None]
    if not tested or claim.verdict == "not judged":
        return []
    said = _of_one(claim, tested[0]) if len(tested) == 1 else _of_several(claim, tested)
    return [f"so far {said}" if claim.verdict == "partial" else said]


def size(claim: JudgedClaim, effect: Effect) -> str:
    """An effect between its bounds, with the claim's unit."""
    # What is tested is a difference: of two shares it is in points, not in per cent of something.
    unit = " points" if claim.unit == "%" else f" {claim.unit}" if claim.unit else ""
    return f"{formatting.interval(effect.theta, effect.lower, effect.upper)}{unit}"


def _of_one(claim: JudgedClaim, one: Comparison) -> str:
    how = {"upheld": "is", "contradicted": "is not"}.get(one.verdict or "", "is not shown to be")
    return f"{one.subject} {how} {one.relation}{_at(one.place)}: {_beside(one)}{_size(claim, one)}"


def _beside(one: Comparison) -> str:
    """The effect of a bound is the distance from it, not the number that is bounded."""
    if one.effect is None or not one.relation.startswith(("at most ", "at least ")):
        return ""
    return "within it by " if one.effect.theta >= 0 else "beyond it, effect "


def _of_several(claim: JudgedClaim, tested: Sequence[Comparison]) -> str:
    upheld = [one for one in tested if one.verdict == "upheld"]
    if len(upheld) == len(tested):
        weakest = max(tested, key=_weakness)
        where = _where(weakest, tested, "that")
        return f"{_all(tested)}, least clearly {where}: {_size(claim, weakest)}"
    parts = [f"{_most(tested)} in {len(upheld)} of {len(tested)} {_cases(tested)}"]
    alike = len({one.what for one in tested}) == 1
    words = (
        ("contradicted", "the opposite" if alike else "it does not hold", "that"),
        ("undecided", "undecided", "whether"),
    )
    for verdict, said, conjunction in words:
        found = [one for one in tested if one.verdict == verdict]
        found.sort(key=_weakness, reverse=True)
        named = [
            f"{_where(one, tested, conjunction)} ({_size(claim, one)})" for one in found[:_NAMED]
        ]
        if len(found) > _NAMED:
            named.append(f"{len(found) - _NAMED} more")
        if named:
            parts.append(f"{said} {enumerated(named)}")
    return "; ".join(parts)


def _all(tested: Sequence[Comparison]) -> str:
    """Such as ``SubTB is better than TB and DB in all 4 cases``."""
    relations = list(dict.fromkeys(one.relation for one in tested))
    places = len({one.place for one in tested})
    if len({one.subject for one in tested}) > 1 or len(relations) > _RELATIONS:
        return f"{'both' if len(tested) == 2 else f'all {len(tested)}'} comparisons hold"
    common = "better than " if all(r.startswith("better than ") for r in relations) else ""
    said = common + enumerated([relation.removeprefix(common) for relation in relations])
    where = f" in {'both' if places == 2 else f'all {places}'} cases" if places > 1 else ""
    return f"{tested[0].subject} is {said}{where}"


def _most(tested: Sequence[Comparison]) -> str:
    if len({one.what for one in tested}) == 1:
        return f"{tested[0].subject} is {tested[0].relation}"
    return "the claim holds"


def _cases(tested: Sequence[Comparison]) -> str:
    return "cases" if len({one.what for one in tested}) == 1 else "comparisons"


def _where(one: Comparison, tested: Sequence[Comparison], conjunction: str) -> str:
    """What tells a comparison from the others of its claim."""
    if len({other.what for other in tested}) == 1:
        return _at(one.place).strip()
    place = _at(one.place) if len({other.place for other in tested}) > 1 else ""
    return f"{conjunction} {one.subject} is {one.relation}{place}"


def _at(place: str) -> str:
    if place.startswith("average of "):
        return f" in the {place}"
    return f" at {place}" if place else ""


def _size(claim: JudgedClaim, one: Comparison) -> str:
    return "" if one.effect is None else size(claim, one.effect)


def _weakness(one: Comparison) -> float:
    """The less certain a comparison, the larger."""
    return -math.inf if one.effect is None or one.effect.p is None else one.effect.p
