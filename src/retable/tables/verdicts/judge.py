"""The verdict of every cell and claim of a table; the formulas are elsewhere, see below.

Reading of reported numbers: :mod:`retable.tables.verdicts.reported`. Interval, margin and verdict
of a cell: :mod:`retable.tables.verdicts.cell`. Claims: :mod:`retable.tables.verdicts.claims`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from retable.tables.aggregate import Cell, Table
from retable.tables.results import (
    DIFFERENT,
    JUDGED,
    Difference,
    Judged,
    JudgedClaim,
    Margin,
    Reading,
    Tally,
    VerdictKind,
)
from retable.tables.spec_parts import Reported
from retable.tables.verdicts.cell import (
    default_tolerance,
    deterministic_difference,
    difference,
    margin_of,
    verdict,
)
from retable.tables.verdicts.claim_arms import is_heavy_cell, printed
from retable.tables.verdicts.claims import judge_claim
from retable.tables.verdicts.derivation import steps
from retable.tables.verdicts.multiplicity import BOLD_LEVEL, best, holm
from retable.tables.verdicts.power import needed_cell
from retable.tables.verdicts.reported import last_digit, read

NOT_KNOWN = "not known"


def judge(table: Table) -> Table:
    """The same table with verdicts: of its cells, its claims, and their count.

    Raises:
        UserError: where a reported number has no margin to be judged by.
    """
    # Several looks are judged by what is built on what follows here.
    if table.at_looks:
        from retable.tables.verdicts.declared import judged_at_looks

        return judged_at_looks(table)
    if table.course is not None:
        from retable.tables.verdicts.sequential import decided

        return decided(table, table.course)
    return judge_plainly(table)


def judge_plainly(table: Table, bold: Callable[[str], float] = lambda _: BOLD_LEVEL) -> Table:
    """The same for a table that is looked at once.

    Args:
        table: not judged.
        bold: two-sided level at which the best row of a column beats each other.
    """
    cells = {place: replace(c, judged=judge_cell(table, c)) for place, c in table.cells.items()}
    for column in table.spec.columns:
        row = best_row(table, column, level=bold(column))
        if row is not None:
            cell = cells[row, column]
            assert cell.judged is not None
            cells[row, column] = replace(cell, judged=replace(cell.judged, bold=True))
    claims = [judge_claim(table, claim) for claim in table.spec.claims]
    return with_claims(replace(table, cells=cells), [explained(table, c) for c in claims])


def judge_all(tables: Iterable[Table]) -> list[Table]:
    """Tables judged together: p of claims is adjusted (Holm) over all claims of a paper.

    Claims of different protocols are different questions and are adjusted apart.
    """
    judged = [judge(table) for table in tables]
    families: dict[tuple[str, str], list[float]] = {}
    for table in judged:
        ps = [claim.p for claim in table.claims if claim.p is not None]
        families.setdefault((table.spec.paper, table.protocol), []).extend(ps)
    adjusted = {family: iter(holm(ps)) for family, ps in families.items()}
    return [
        with_claims(table, _with_holm(table.claims, adjusted[table.spec.paper, table.protocol]))
        for table in judged
    ]


def _with_holm(claims: Sequence[JudgedClaim], adjusted: Iterable[float]) -> list[JudgedClaim]:
    following = iter(adjusted)
    return [c if c.p is None else replace(c, p_holm=next(following)) for c in claims]


def with_claims(table: Table, claims: list[JudgedClaim]) -> Table:
    """A judged table with these claims, counted anew."""
    found = tally(table.cells.values(), claims)
    if table.protocol == "smoke":  # whose data say nothing, against a claim either
        found = replace(found, against=0)
    return replace(table, claims=claims, tally=found)


def tally(cells: Iterable[Cell], claims: Iterable[JudgedClaim]) -> Tally:
    """Verdicts counted."""
    judged = [cell for cell in cells if cell.judged and cell.judged.kind in JUDGED]
    kinds = Counter(cell.judged.kind for cell in judged if cell.judged)
    verdicts = Counter(claim.verdict for claim in claims)
    return Tally(
        judged=len(judged),
        estimated=sum(_is_estimated(cell.judged) for cell in judged),
        reproduced=kinds["reproduced"],
        consistent=kinds["consistent"],
        undecided=kinds["undecided"],
        different=sum(kinds[kind] for kind in DIFFERENT),
        unverified=sum(not is_verified(cell.reported) for cell in judged),
        upheld=verdicts["upheld"],
        contradicted=verdicts["contradicted"],
        claims_undecided=verdicts["undecided"],
        claims_partial=verdicts["partial"],
        not_judged=verdicts["not judged"],
        against=sum(is_against(claim) for claim in claims),
    )


def is_against(claim: JudgedClaim) -> bool:
    """Whether a claim that is not judged has a comparison that would contradict it."""
    found = (one.verdict for one in claim.comparisons)
    return claim.verdict == "not judged" and "contradicted" in found


def _is_estimated(judged: Judged | None) -> bool:
    found = None if judged is None else judged.difference
    return found is not None and found.rule != "deterministic" and found.half is not None


def add(tallies: Iterable[Tally]) -> Tally:
    """Counts of several tables together."""
    several = list(tallies)
    names = Tally.__dataclass_fields__
    return Tally(**{name: sum(getattr(t, name) for t in several) for name in names})


def is_verified(reported: Reported | None) -> bool:
    """Whether the paper or its authors' material prints the number."""
    return reported is not None and reported.grade == "primary"


# Cells


def judge_cell(table: Table, cell: Cell, *, level: float = 0.95) -> Judged:
    """Judge one cell.

    Args:
        table: that it is of.
        cell: with its values.
        level: of the interval; above 95 % where several looks share the error.

    Raises:
        UserError: where the reported number has no margin to be judged by.
    """
    marks = list(cell.marks)
    heavy = cell.n > 1 and is_heavy_cell(cell)
    if heavy:
        marks.append("heavy tails")
    middle = _median(table, cell) if heavy else None
    if cell.reported is None:
        kind, text = _incomplete(cell) or ("no reported value", "")
        return Judged(kind, text, marks=marks, median=middle)
    reading = read(cell.reported, printed(table, cell.column))
    if cell.n == 0:
        kind, text = _incomplete(cell) or ("not run", "not run")
        return Judged(kind, text, reading, marks=marks)
    if table.protocol != "paper":
        return Judged("protocol", table.protocol, reading, marks=marks, median=middle)
    return _compared(table, cell, reading, marks, middle, level)


def _median(table: Table, cell: Cell) -> float | None:
    """Of the values; of a cell that is relative to another row the ratio of both medians."""
    reference = table.spec.reference(cell.column)
    if reference is None:
        return median(cell.values.values())
    below = table.cells[reference, cell.column].raw
    seeds = [seed for seed in cell.values if seed in cell.raw and seed in below]
    bottom = median(below[seed] for seed in seeds) if seeds else 0.0
    factor = 100.0 if table.spec.metrics[cell.metric].unit == "%" else 1.0
    return factor * median(cell.raw[seed] for seed in seeds) / bottom if bottom else None


def _incomplete(cell: Cell) -> tuple[VerdictKind, str] | None:
    """Why a cell's number is not the one that was asked for."""
    for status, count in cell.ended.items():
        return "diverged", f"{status} {count}/{cell.n_planned}"
    if cell.n < cell.n_planned:
        return "partial", f"partial {cell.n}/{cell.n_planned}"
    return None


def _compared(
    table: Table, cell: Cell, reading: Reading, marks: list[str], middle: float | None, level: float
) -> Judged:
    assert cell.mean is not None
    assert cell.reported is not None
    metric = table.spec.metrics[cell.metric]
    needed = None
    if metric.deterministic:
        if metric.tolerance is None:
            unit = last_digit(cell.reported, printed(table, cell.column))
            margin = Margin(default_tolerance(reading, unit), "0.6 units of the last printed digit")
        else:
            margin = Margin(metric.tolerance, "tolerance given for the metric")
        found, _ = deterministic_difference(cell.mean, reading, margin.value)
    else:
        found = difference(
            cell.mean, cell.std, cell.n, reading, quantum=metric.quantum, level=level
        )
        margin = margin_for(table, cell.row, cell.column, reading)
        marks += _assumptions(found, reading)
    kind = verdict(
        found,
        cell.n,
        margin.value,
        metric.direction,
        mean=cell.mean,
        reported=reading.value,
        ideal=metric.ideal,
    )
    if kind in {"undecided", "consistent"}:
        needed = needed_cell(cell.mean, cell.std, reading, margin.value, quantum=metric.quantum)
    lines = steps(cell.mean, cell.std, cell.n, reading, found, margin, kind)
    given_up = _incomplete(cell)
    if given_up is not None:
        kind, text = given_up
    else:
        text = kind
    why = _why(table, cell) if kind in DIFFERENT else None
    return Judged(
        kind, text, reading, found, margin, needed, marks, median=middle, steps=lines, why=why
    )


def _assumptions(found: Difference, reading: Reading) -> list[str]:
    out: list[str] = []
    if reading.n_assumed:
        out.append("n assumed")
    if found.rule in {"equal spread", "one run"}:
        out.append("equal spread assumed")
    return out


def margin_for(table: Table, row: str, column: str, reading: Reading) -> Margin:
    """The margin of a cell, from the first source that exists.

    Raises:
        UserError: where there is none.
    """
    reported = table.spec.reported[row][column]
    metric = table.spec.metrics[table.spec.columns[column].metric]
    column_cells = [found[column] for found in table.spec.reported.values() if column in found]
    return margin_of(
        reading,
        where=f"{table.name}, row {row}, column {column}",
        given=[
            (reported.margin, "the cell"),
            (table.spec.columns[column].margin, "the column"),
            (metric.margin, "the metric"),
        ],
        n_test=metric.n_test,
        scale=100.0 if metric.unit == "%" else 1.0,
        quantum=metric.quantum,
        stds=[read(r).std for r in column_cells],
        positive=metric.positive,
    )


def best_row(table: Table, column: str, *, level: float = BOLD_LEVEL) -> str | None:
    """The row that beats every other of the column; None where one is incomplete.

    Args:
        table: that it is of.
        column: by name.
        level: two-sided; less than 5 % where several looks share it.
    """
    metric = table.spec.metrics[table.spec.columns[column].metric]
    if not metric.ranked or (metric.direction == "none" and metric.ideal is None):
        return None
    cells = [c for (_, name), c in table.cells.items() if name == column and c.n_planned]
    if len(cells) < 2 or any(_incomplete(cell) for cell in cells):
        return None
    rows: Mapping[str, Mapping[int, float]] = {cell.row: cell.values for cell in cells}
    return best(
        rows,
        metric.direction,
        ideal=metric.ideal,
        quantum=metric.quantum,
        deterministic=metric.deterministic,
        level=level,
    )


# Causes


def _why(table: Table, cell: Cell) -> str | None:
    for why in table.spec.why:
        columns = [why.column] if isinstance(why.column, str) else why.column
        if why.row == cell.row and (columns is None or cell.column in columns):
            return why.text()
    return None if table.spec.counted_in else NOT_KNOWN  # a candidate that is not it


def explained(table: Table, claim: JudgedClaim) -> JudgedClaim:
    """A contradicted claim with the cause that the table file gives, or that it is not known."""
    if claim.verdict != "contradicted":
        return claim
    for why in table.spec.why:
        if why.claim == claim.id:
            return replace(claim, why=why.text())
    return replace(claim, why=NOT_KNOWN)
