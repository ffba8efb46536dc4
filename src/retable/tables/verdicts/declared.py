"""Looks that a table file declares: a published table is judged again with further seeds.

Every cell and claim gets them, and is judged at each look by that look's share of the error. What
is settled at a look is final; of the rest the last look that is taken counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from retable.tables.aggregate import Table
from retable.tables.at_looks import taken
from retable.tables.claim_spec import Claim
from retable.tables.looks_spec import looks_of
from retable.tables.results import CellId, Judged, JudgedClaim
from retable.tables.select import seeds_text
from retable.tables.verdicts.claim_contrasts import metric_of, sums_of
from retable.tables.verdicts.claims import cells_of, judge_claim
from retable.tables.verdicts.course import SETTLED, TOTAL, Looks
from retable.tables.verdicts.judge import best_row, explained, judge_cell, with_claims
from retable.util.text import counted, enumerated

Tables = Sequence[Table]
"""The table with the seeds of each look."""


def judged_at_looks(table: Table) -> Table:
    """The same table with the verdicts of the looks that are taken.

    Args:
        table: not judged, with its cells at each look.

    Raises:
        UserError: where a reported number has no margin to be judged by.
    """
    tables = [replace(table, cells=dict(cells), at_looks=()) for cells in table.at_looks]
    looks: dict[CellId, Looks] = {}
    for place, cell in table.cells.items():
        fixed = looks_of(table.spec, place, table.protocol) if cell.n_planned else None
        if fixed is not None:
            looks[place] = fixed
    stands = {place: taken(table.spec, table.at_looks, place) for place in looks}
    bold = {(_best(tables, column, looks, stands), column) for column in table.spec.columns}
    judged = {place: _cell(tables, place, looks, stands) for place in table.cells}
    cells = {
        place: replace(cell, judged=replace(judged[place], bold=place in bold))
        for place, cell in table.cells.items()
    }
    claims = [_claim(tables, claim, looks, stands) for claim in table.spec.claims]
    remarks = [*table.remarks, *_remarks(table, looks, stands)]
    return with_claims(replace(table, cells=cells, remarks=remarks), claims)


def _cell(
    tables: Tables, place: CellId, looks: Mapping[CellId, Looks], stands: Mapping[CellId, int]
) -> Judged:
    if place not in looks:  # reported only
        return judge_cell(tables[0], tables[0].cells[place])
    alphas, last = looks[place].alphas, _last(stands, [place])
    found = [
        judge_cell(table, table.cells[place], level=1 - alpha)
        for table, alpha in zip(tables[: last + 1], alphas, strict=False)
    ]
    fixed = metric_of(tables[0], place[1]).deterministic  # the same number at every look
    for number, judged in enumerate(found[:last]):
        if judged.kind in SETTLED and not fixed:
            mark = f"settled at {looks[place].seeds[number]} seeds"
            now = found[last]
            return replace(judged, marks=[*now.marks, mark], median=now.median)
    return found[last]


def _claim(
    tables: Tables, claim: Claim, looks: Mapping[CellId, Looks], stands: Mapping[CellId, int]
) -> JudgedClaim:
    about: list[CellId] = []
    if claim.kind != "not_judged":
        about = [(c.row, c.column) for c in cells_of(tables[0], claim, sums_of(tables[0], claim))]
    ours = [place for place in about if place in looks]
    last = _last(stands, ours)

    def at(number: int) -> JudgedClaim:
        alpha = min((looks[place].alphas[number] for place in ours), default=TOTAL)
        return explained(tables[number], judge_claim(tables[number], claim, alpha=alpha))

    for number in range(last):
        judged = at(number)
        if judged.verdict in SETTLED:
            seeds = {looks[place].seeds[number] for place in ours}
            mark = f"settled at {enumerated([str(n) for n in sorted(seeds)])} seeds"
            return replace(judged, marks=[*judged.marks, mark])
    return at(last)


def _best(
    tables: Tables,
    column: str,
    looks: Mapping[CellId, Looks],
    stands: Mapping[CellId, int],
) -> str | None:
    """Row that is the best of its column at the last look that all of it has taken."""
    places = [place for place in looks if place[1] == column]
    if not places:
        return None
    last = _last(stands, places)
    return best_row(tables[last], column, level=min(looks[p].alphas[last] for p in places))


def _last(stands: Mapping[CellId, int], places: Sequence[CellId]) -> int:
    """Number, from 0, of the last look that all of some cells have taken; the first without any."""
    return max(min((stands[place] for place in places), default=0), 1) - 1


# What has to stand with the table


def _remarks(
    table: Table, looks: Mapping[CellId, Looks], stands: Mapping[CellId, int]
) -> list[str]:
    sequences = {tuple(fixed.seeds): fixed for fixed in looks.values()}
    shares = "; ".join(
        f"{_then(fixed.seeds)} seeds (α {_then([f'{alpha:.4f}' for alpha in fixed.alphas])})"
        for fixed in sequences.values()
    )
    (day,) = {fixed.fixed for fixed in looks.values()}
    rule = (
        f"Judged at looks fixed on {day}, before any seed beyond those of the first was run:"
        f" {shares}. Intervals are at level 1 − α of their look; a claim over cells with different"
        " looks has the smallest α of each. A verdict that is settled at a look is final."
    )
    counts = Counter((tuple(fixed.seeds), stands[place]) for place, fixed in looks.items())
    seeds = table.spec.seed_list(table.protocol)
    states = [
        f"{counted(n, 'cell')} of {_then(sequence)} seeds: {_state(seeds, sequence, number)}"
        for sequence in sequences
        for number in range(len(sequence), -1, -1)
        if (n := counts[sequence, number])
    ]
    return [rule, f"Looks taken: {'; '.join(states)}."]


def _state(seeds: Sequence[int], sequence: Sequence[int], number: int) -> str:
    """Which look some cells stand at, and the seeds that the next one waits for."""
    if number == len(sequence):
        return f"look {number}, the last"
    begun = sequence[number - 1] if number else 0
    waiting = seeds[begun : sequence[number]]
    are = "seed {} is" if len(waiting) == 1 else "seeds {} are"
    return f"look {number or 'none yet'}, {are.format(seeds_text(waiting))} waiting"


def _then(values: Sequence[object]) -> str:
    return ", then ".join(map(str, values))
