"""The weighted sums of cells that a claim says are positive, by the claim's kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from retable.tables.claim_spec import Claim
from retable.tables.spec_parts import Metric
from retable.tables.verdicts.contrast import trend_weights
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.tables.aggregate import Table

ABOUT = 1.25
"""Factor within which "about f" is taken, where the table file gives no other."""

Term = tuple[float, str, str]
"""Weight, row, column."""


@dataclass(frozen=True)
class Sum:
    """One weighted sum of cells that has to be above a constant.

    Attributes:
        subject: of what it says something.
        relation: what it says; together they tell it from the claim's other sums in the same place.
        place: what tells it from those elsewhere.
        terms: weight, row and column of each cell.
        c0: the constant.
        ideal: value from which the distances of the cells are taken, None where of the cells.
    """

    subject: str
    relation: str
    place: str
    terms: list[Term]
    c0: float = 0.0
    ideal: float | None = None

    def formula(self, table: Table) -> str:
        """Such as ``no regularizer − BinaryConnect > 0``."""
        columns = self._columns()
        shown: list[str] = []
        weights: dict[str, list[float]] = {}
        for weight, row, column in self.terms:
            name = row if len(columns) == 1 or _is_average(self.terms) else f"{row}, {column}"
            weights.setdefault(name, []).append(weight)
        totals = {name: math.fsum(several) for name, several in weights.items()}
        for name, weight in sorted(totals.items(), key=lambda item: item[1] < 0):
            factor = "" if math.isclose(abs(weight), 1.0) else f"{abs(weight):.4g} × "
            title = from_ideal(_title(table, name), self.ideal)
            shown.append(f"{'−' if weight < 0 else '+'} {factor}{title}")
        left = " ".join(shown).removeprefix("+ ")
        return f"{left} > {self.c0:.4g}".replace("> -", "> −")

    def text(self, table: Table) -> str:
        """Such as ``no regularizer − BinaryConnect > 0 (MNIST)``."""
        columns = self._columns()
        where = "average of " if _is_average(self.terms) else ""
        place = ", ".join(column_title(table, c) for c in columns[:2])
        if len(columns) > 2:
            place = f"{len(columns)} columns"
        return f"{self.formula(table)} ({where}{place})"

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(column for _, _, column in self.terms))


def from_ideal(title: str, ideal: float | None) -> str:
    """A cell by its title, or its distance from an ideal."""
    return title if ideal is None else f"|{title} − {ideal:g}|".replace("− -", "+ ")


def _title(table: Table, name: str) -> str:
    row, _, column = name.partition(", ")
    title = row_title(table, row)
    return f"{title} at {column_title(table, column)}" if column else title


def _is_average(terms: Sequence[Term]) -> bool:
    """Whether the same sum is taken in several columns."""
    by_column: dict[str, list[tuple[float, str]]] = {}
    for weight, row, column in terms:
        by_column.setdefault(column, []).append((weight, row))
    return len(by_column) > 1 and len({tuple(sorted(v)) for v in by_column.values()}) == 1


def sums_of(table: Table, claim: Claim) -> list[Sum]:
    """The weighted sums that have to be positive; none for kinds that test something else."""
    return [one for part in claim.each() for one in _sums_of(table, part)]


def _sums_of(table: Table, claim: Claim) -> list[Sum]:
    builder = _KINDS.get(claim.kind)
    if builder is None:
        return []
    columns = columns_of(table, claim)
    if claim.kind in {"trend", "interaction"}:
        return builder(table, claim, columns)
    if claim.average and len(columns) > 1:
        return _averaged([builder(table, claim, [column]) for column in columns])
    return [s for column in columns for s in builder(table, claim, [column])]


def _averaged(per_column: Sequence[list[Sum]]) -> list[Sum]:
    count = len(per_column)
    return [
        replace(
            several[0],
            place=f"average of {count} columns",
            c0=math.fsum(s.c0 for s in several) / count,
            terms=[(weight / count, *at) for s in several for weight, *at in s.terms],
        )
        for several in zip(*per_column, strict=True)
    ]


def columns_of(table: Table, claim: Claim) -> list[str]:
    """The named columns; else those in which every row of the claim has a cell."""
    named = claim.columns()
    if named:
        return named
    return [c for c in table.spec.columns if all((r, c) in table.cells for r in claim.rows())]


def ideal_of(table: Table, claim: Claim, column: str) -> float | None:
    """The value that a comparison of rows takes the distances from, None where it takes none."""
    compares = claim.kind in {"ordering", "all_of", "not_worse", "interaction", "tie"}
    return metric_of(table, column).ideal if compares else None


def metric_of(table: Table, column: str) -> Metric:
    """Metric of a column."""
    return table.spec.metrics[table.spec.columns[column].metric]


def _sign(table: Table, claim: Claim, column: str) -> float:
    """1 where larger is better, -1 where smaller is, the distance from an ideal too."""
    smaller = ideal_of(table, claim, column) is not None
    return -1.0 if smaller or metric_of(table, column).direction == "min" else 1.0


def row_title(table: Table, row: str) -> str:
    """Title of a row, else its name."""
    return table.spec.rows[row].title or row


def column_title(table: Table, column: str) -> str:
    """Title of a column, else its name."""
    return table.spec.columns[column].title or column


def _named(table: Table, row: str, column: str) -> str:
    return f"{row_title(table, row)}, {column_title(table, column)}"


def others_of(claim: Claim) -> list[str]:
    """Rows that the claim's row is compared with."""
    return [claim.than] if isinstance(claim.than, str) else list(claim.than or [])


def _ordering(table: Table, claim: Claim, columns: Sequence[str]) -> list[Sum]:
    assert claim.better is not None
    (column,) = columns
    sign = _sign(table, claim, column)
    c0, relation = 0.0, "better than"
    if claim.kind == "not_worse":
        c0, relation = -margin_of(table, claim, column), "not worse than"
    return [
        Sum(
            row_title(table, claim.better),
            f"{relation} {row_title(table, other)}",
            column_title(table, column),
            [(sign, claim.better, column), (-sign, other, column)],
            c0,
            ideal_of(table, claim, column),
        )
        for other in others_of(claim)
    ]


def margin_of(table: Table, claim: Claim, column: str) -> float:
    """Margin of a claim, in the printed unit.

    Raises:
        UserError: where neither claim, column nor metric has one.
    """
    given = (claim.margin, table.spec.columns[column].margin, metric_of(table, column).margin)
    margin = next((m for m in given if m is not None), None)
    if margin is None:
        raise UserError(
            f"{table.name}: claims.{claim.id}.margin: is missing; give one to the claim or metric"
        )
    return margin


def _threshold(table: Table, claim: Claim, columns: Sequence[str]) -> list[Sum]:
    assert claim.better is not None
    (column,) = columns
    row, place = claim.better, column_title(table, column)
    name = row_title(table, row)

    def above(c: float) -> Sum:
        return Sum(name, f"at least {c:g}", place, [(1.0, row, column)], c)

    def below(c: float) -> Sum:
        return Sum(name, f"at most {c:g}", place, [(-1.0, row, column)], -c)

    return _bounds(claim, above, below)


def _ratio(table: Table, claim: Claim, columns: Sequence[str]) -> list[Sum]:
    """The factor is that of an improvement: than / better where smaller is better."""
    (column,) = columns
    top, bottom = quotient_of(table, claim, column)
    (other,) = others_of(claim)
    place, against = column_title(table, column), row_title(table, other)

    def factor(bound: str, f: float, sign: float) -> Sum:
        assert claim.better is not None
        return Sum(
            row_title(table, claim.better),
            f"{bound} {f'{f:.4g} times ' if f != 1 else ''}as good as {against}",
            place,
            [(sign, top, column), (-sign * f, bottom, column)],
        )

    return _bounds(
        claim, lambda f: factor("at least", f, 1.0), lambda f: factor("at most", f, -1.0)
    )


def _bounds(
    claim: Claim, above: Callable[[float], Sum], below: Callable[[float], Sum]
) -> list[Sum]:
    if claim.at_least is not None:
        return [above(claim.at_least)]
    if claim.at_most is not None:
        return [below(claim.at_most)]
    assert claim.about is not None
    within = claim.within or ABOUT
    low, high = sorted((claim.about / within, claim.about * within))
    return [above(low), below(high)]


def quotient_of(table: Table, claim: Claim, column: str) -> tuple[str, str]:
    """Rows above and below the line of a ratio, so that a larger one is a larger improvement."""
    assert claim.better is not None
    (other,) = others_of(claim)
    smaller = _sign(table, claim, column) < 0
    return (other, claim.better) if smaller else (claim.better, other)


def _trend(table: Table, claim: Claim, columns: Sequence[str]) -> list[Sum]:
    """Over columns of one row, or over rows (`better`, then `than`) in one column."""
    assert claim.better is not None
    rows = [claim.better, *others_of(claim)]
    points = (
        [(row, columns[0]) for row in rows]
        if len(rows) > 1
        else [(claim.better, column) for column in columns]
    )
    sign = 1.0 if claim.trend == "rises" else -1.0
    if claim.each_step:
        return [
            Sum(
                _named(table, *second),
                f"{'higher' if sign > 0 else 'lower'} than {_named(table, *first)}",
                "",
                [(sign, *second), (-sign, *first)],
            )
            for first, second in pairwise(points)
        ]
    positions = claim.positions or [float(i) for i in range(len(points))]
    if len(positions) != len(points):
        raise UserError(
            f"{table.name}: claims.{claim.id}.positions: {len(positions)} for {len(points)} points"
        )
    weights = trend_weights(positions)
    terms = [(sign * weight, *point) for weight, point in zip(weights, points, strict=True)]
    over = f"{'rising' if sign > 0 else 'falling'} over {len(points)}"
    if len(rows) > 1:
        return [Sum(column_title(table, columns[0]), f"{over} rows", "", terms)]
    return [Sum(row_title(table, claim.better), f"{over} columns", "", terms)]


def _interaction(table: Table, claim: Claim, columns: Sequence[str]) -> list[Sum]:
    """Gain of `better` over `than` in the first column, less that in the second."""
    assert claim.better is not None
    if len(columns) != 2 or len(others_of(claim)) != 1:
        raise UserError(
            f"{table.name}: claims.{claim.id}: an interaction needs one row in than and two columns"
            " in on"
        )
    (other,) = others_of(claim)
    terms: list[Term] = []
    for weight, column in zip((1.0, -1.0), columns, strict=True):
        sign = weight * _sign(table, claim, column)
        terms += [(sign, claim.better, column), (-sign, other, column)]
    first, second = (column_title(table, column) for column in columns)
    gain = f"the gain of {row_title(table, claim.better)} over {row_title(table, other)}"
    ideal = ideal_of(table, claim, columns[0])
    return [Sum(gain, f"larger at {first} than at {second}", "", terms, ideal=ideal)]


_KINDS: dict[str, Callable[[Table, Claim, Sequence[str]], list[Sum]]] = {
    "ordering": _ordering,
    "all_of": _ordering,
    "not_worse": _ordering,
    "threshold": _threshold,
    "ratio": _ratio,
    "trend": _trend,
    "interaction": _interaction,
}
