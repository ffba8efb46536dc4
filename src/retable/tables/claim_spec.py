"""A claim of a table file: what the paper states, and how it is tested."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, PositiveFloat, model_validator

from retable.tables.part import Grade, Part, Words

ClaimKind = Literal[
    "ordering",
    "threshold",
    "ratio",
    "not_worse",
    "tie",
    "trend",
    "all_of",
    "interaction",
    "spread",
    "function",
    "not_judged",
]


class Also(Part):
    """Further comparison of the same statement and kind; what is left out is the claim's."""

    better: str | None = None
    than: str | list[str] | None = None
    on: str | list[str] | None = None


_IN_EACH_COLUMN = ("ordering", "all_of", "not_worse", "threshold", "ratio")
_READ_BY: dict[str, tuple[str, ...]] = {
    "average": _IN_EACH_COLUMN,
    "also": (*_IN_EACH_COLUMN, "trend", "interaction"),
    **dict.fromkeys(("at_least", "at_most", "about", "within"), ("threshold", "ratio")),
    "than": tuple(kind for kind in get_args(ClaimKind) if kind != "threshold"),
    "margin": ("not_worse", "tie"),
    **dict.fromkeys(("each_step", "trend", "positions"), ("trend",)),
    "function": ("function",),
    "why_not_judged": ("not_judged",),
}
"""Kinds that read a field of a claim."""


class Claim(Part):
    """A statement of the paper, as it stands there, and how it is tested."""

    id: str
    statement: str
    kind: ClaimKind
    where: str | None = None
    grade: Grade = "primary"
    better: str | None = None
    than: str | list[str] | None = None
    on: str | list[str] | None = Field(None, description="columns; all where left out")
    average: bool = Field(False, description="over the columns, instead of in each")
    also: list[Also] = Field([], description="further comparisons that the statement makes")
    at_least: float | None = None
    at_most: float | None = None
    about: float | None = None
    within: PositiveFloat | None = None
    margin: PositiveFloat | None = None
    each_step: bool = False
    trend: Literal["rises", "falls"] = Field("rises", description="of a claim of kind trend")
    positions: list[float] | None = Field(
        None, description="of the ordered points of a trend; 0, 1, 2 ... where left out"
    )
    function: str | None = Field(
        None, description="name in the paper's claims.py: a number per seed, positive supports it"
    )
    why_not_judged: str | None = None
    not_in: dict[str, Words] = Field(
        {}, description="protocols that cannot decide it, each with the reason; the effect is shown"
    )

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        bounds = [b for b in (self.at_least, self.at_most, self.about) if b is not None]
        if self.kind in {"ordering", "ratio", "not_worse", "tie", "spread", "all_of"} and not (
            self.better and self.than
        ):
            raise ValueError(f"better, than: a claim of kind {self.kind} names rows in both")
        if self.kind in {"ratio", "threshold"} and len(bounds) != 1:
            raise ValueError("at_least, at_most, about: give one of them")
        if self.within is not None and (self.about is None or self.within <= 1):
            raise ValueError("within: is the factor above 1 that about may be off by")
        if (self.kind == "ratio" and any(bound <= 0 for bound in bounds)) or self.about == 0:
            raise ValueError("at_least, at_most, about: no factor is 0, and a ratio is positive")
        self._refuse_unread()
        if self.kind == "not_judged" and not self.why_not_judged:
            raise ValueError("why_not_judged: is needed where a claim is not judged")
        if "paper" in self.not_in:
            raise ValueError("not_in: the paper's own protocol decides its claims")
        return self

    def _refuse_unread(self) -> None:
        """Refuse what a claim of this kind is tested without."""
        for name in sorted(self.model_fields_set & _READ_BY.keys()):
            given = getattr(self, name)
            if self.kind not in _READ_BY[name] and given != type(self).model_fields[name].default:
                kinds = ", ".join(_READ_BY[name])
                raise ValueError(f"{name}: a claim of kind {self.kind} has none, only {kinds}")
        if self.kind == "threshold" and any(part.than for part in self.also):
            raise ValueError("also: a claim of kind threshold compares with no row")

    def rows(self) -> list[str]:
        """Rows that the claim names."""
        found: list[str] = []
        for part in self.each():
            than = [part.than] if isinstance(part.than, str) else part.than or []
            found += [name for name in [part.better, *than] if name and name not in found]
        return found

    def columns(self) -> list[str]:
        """Columns that the claim names; empty for all."""
        found: list[str] = []
        for part in self.each():
            named = [part.on] if isinstance(part.on, str) else part.on or []
            if not named:
                return []
            found += [name for name in named if name not in found]
        return found

    def each(self) -> list[Claim]:
        """The claim's comparisons one by one: its own, then what the statement says besides."""
        own = self.model_copy(update={"also": []})
        if not self.also:
            return [self]
        return [own, *(own.model_copy(update=a.model_dump(exclude_none=True)) for a in self.also)]
