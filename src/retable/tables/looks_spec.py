"""Looks that a table file declares: seeds that a published table is judged at again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from retable.tables.spec_parts import Part, SeedCount
from retable.tables.verdicts.course import Looks
from retable.util.errors import nearest

if TYPE_CHECKING:
    from retable.tables.spec import TableSpec


class DeclaredLooks(Part):
    """Numbers of seeds at which the whole table is judged, those first published among them."""

    fixed: date = Field(description="day on which they were, before any further seed was run")
    protocol: str = Field("paper", description="whose seeds are meant")
    at: list[Annotated[list[SeedCount], Field(min_length=2)]] = Field(
        min_length=1,
        description="ascending numbers of seeds; a cell has those that end at its own number",
    )


def declared_in(spec: TableSpec, protocol: str) -> DeclaredLooks | None:
    """The looks at a table under a protocol, None where it is judged once."""
    return spec.looks if spec.looks is not None and spec.looks.protocol == protocol else None


def looks_of(spec: TableSpec, place: tuple[str, str], protocol: str) -> Looks | None:
    """The looks at one of a table's cells."""
    declared = declared_in(spec, protocol)
    if declared is None:
        return None
    last = spec.n_seeds(*place, protocol)
    seeds = next(seeds for seeds in declared.at if seeds[-1] == last)
    return Looks(seeds, declared.fixed.isoformat())


def problems(spec: TableSpec) -> Iterator[tuple[list[str], str]]:
    """Looks that some cell could not be judged at; a path of keys, and what is wrong there."""
    declared = spec.looks
    if declared is None:
        return
    protocol, sequences = declared.protocol, declared.at
    if protocol not in spec.protocols():
        near = nearest(protocol, spec.protocols())
        yield ["looks", "protocol"], f"no protocol '{protocol}'{near}"
        return
    for number, seeds in enumerate(sequences):
        path = ["looks", "at", str(number)]
        if seeds != sorted(set(seeds)):
            yield path, f"{seeds}: expected ascending numbers of seeds"
        if len(seeds) != len(sequences[0]):
            yield path, f"{len(seeds)} looks, and {len(sequences[0])} in the first of 'at'"
        if any(other[-1] == seeds[-1] for other in sequences[:number]):
            yield path, f"two of 'at' end at {seeds[-1]} seeds, so that none is a cell's own"
    ends = {seeds[-1] for seeds in sequences}
    own = {
        (row, column): spec.n_seeds(row, column, protocol)
        for row in spec.rows
        for column in spec.columns
        if spec.rows[row].runs_in(column) and spec.experiment(column, protocol, row)
    }
    for (row, column), n in own.items():
        where = f"row {row}, column {column}"
        if n not in ends:
            yield ["looks", "at"], f"none ends at {n} seeds, which {where} has"
        above = spec.reference(column)
        if above is not None and own.get((above, column), n) != n:
            yield ["looks", "at"], f"{where} has other looks than row {above}, its reference"
    for number, seeds in enumerate(sequences):
        if seeds[-1] not in own.values():
            yield ["looks", "at", str(number)], f"no cell has {seeds[-1]} seeds under {protocol}"
