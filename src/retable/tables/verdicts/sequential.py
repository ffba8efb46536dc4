"""A table that is run until it is decided: looks fixed before the first run, and what each says.

Seeds are added look by look (3, 5, 10, 20, 40 ...), and only for cells and claims that are still
open. Every look spends its share of the error, so that stopping at a nice moment gains nothing.
What has been decided follows from the records and the fixed looks alone: nothing else is stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from retable.runs.records import Record
from retable.tables.aggregate import Cell, Table, build
from retable.tables.claim_spec import Claim
from retable.tables.grid import Grid
from retable.tables.over_columns_spec import behind
from retable.tables.results import JUDGED, CellId, Judged, JudgedClaim
from retable.tables.spec import TableSpec
from retable.tables.verdicts.claim_contrasts import margin_of
from retable.tables.verdicts.claims import judge_claim
from retable.tables.verdicts.course import SETTLED, Course, Looks
from retable.tables.verdicts.judge import explained, judge_cell, judge_plainly, with_claims
from retable.tables.verdicts.power import (
    HOPELESS,
    chance_settled_cell,
    chance_settled_claim,
    chance_settled_tie,
    looks,
)
from retable.util.atomic import beside
from retable.util.errors import UserError

DEFAULT_MOST = 20


def follow(table_at: Callable[[Mapping[CellId, int]], Table], fixed: Looks) -> Course:
    """Take every look that the records allow.

    Args:
        table_at: the table, not judged, with so many seeds of each cell (the first ones).
        fixed: the looks.
    """
    whole = table_at({})
    open_: set[CellId | str] = {p for p, c in whole.cells.items() if _is_compared(whole, c)}
    claims = {claim.id: claim for claim in whole.spec.claims if _is_tested(whole, claim)}
    open_ |= set(claims)
    course = Course(fixed)
    for number, (n, alpha) in enumerate(zip(fixed.seeds, fixed.alphas, strict=True), 1):
        if not open_ and number > 1:
            break
        # At the first look every cell is filled, also those that nothing is said of.
        wanted = set(whole.cells) if number == 1 else _wanted(whole, open_, claims)
        needed = {p: n for p, cell in whole.cells.items() if p in wanted and cell.n_planned}
        seeds = course.seeds | needed
        table = table_at(seeds)
        if any(table.cells[place].waits for place in needed):
            return replace(course, needed=needed)
        course = _look(replace(course, taken=number, seeds=seeds), table, open_, claims, alpha)
        open_ -= {*course.settled, *course.dropped}
    return course


def _look(
    course: Course,
    table: Table,
    open_: set[CellId | str],
    claims: Mapping[str, Claim],
    alpha: float,
) -> Course:
    """Judge the cells and claims that are still open, at one look."""
    number, last = course.taken, course.looks.alphas[-1]
    most = course.looks.seeds[-1]
    cells, judged_claims = dict(course.cells), dict(course.claims)
    settled, dropped = dict(course.settled), dict(course.dropped)
    for thing in open_:
        if isinstance(thing, str):
            claim = explained(table, judge_claim(table, claims[thing], alpha=alpha))
            judged_claims[thing] = claim
            done = claim.verdict in SETTLED
            hopeless = (
                claim.verdict == "partial"
                or _claim_chance(table, claims[thing], claim, most, last) < HOPELESS
            )
        else:
            cell = table.cells[thing]
            judged = judge_cell(table, cell, level=1 - alpha)
            cells[thing] = judged
            done = judged.kind in SETTLED
            hopeless = judged.kind in {"partial", "diverged"}
            hopeless = hopeless or _cell_chance(table, cell, judged, most, last) < HOPELESS
        if done:
            settled[thing] = number
        elif hopeless and number > 1:
            dropped[thing] = number
    return replace(
        course, cells=cells, claims=judged_claims, settled=settled, dropped=dropped, needed={}
    )


def _cell_chance(table: Table, cell: Cell, judged: Judged, most: int, alpha: float) -> float:
    if cell.mean is None or judged.reading is None or judged.margin is None:
        return 1.0
    quantum = table.spec.metrics[cell.metric].quantum
    return chance_settled_cell(
        cell.mean,
        cell.std,
        judged.reading,
        judged.margin.value,
        most,
        quantum=quantum,
        level=1 - alpha,
    )


def _claim_chance(
    table: Table, claim: Claim, judged: JudgedClaim, most: int, alpha: float
) -> float:
    effect = judged.effect
    if effect is None or effect.std is None:
        return 1.0
    if claim.kind == "tie":
        column = _cells_of(table, claim)[0][1]
        margin = margin_of(table, claim, column)
        return chance_settled_tie(effect.theta, effect.std, margin, most, alpha=alpha)
    return chance_settled_claim(effect.theta, effect.std, most, alpha=alpha)


def _is_compared(table: Table, cell: Cell) -> bool:
    fixed = table.spec.metrics[cell.metric].deterministic
    ours = cell.n_planned > 0 and cell.reported is not None
    return ours and not fixed and table.protocol == "paper"


def _is_tested(table: Table, claim: Claim) -> bool:
    if claim.kind == "not_judged" or table.protocol in claim.not_in:
        return False
    cells = _cells_of(table, claim)
    return bool(cells) and all(
        table.cells[p].n_planned or table.cells[p].reported is not None for p in cells
    )


def _cells_of(table: Table, claim: Claim) -> list[CellId]:
    rows, columns = claim.rows() or list(table.spec.rows), claim.columns()
    return [
        place for place in table.cells if place[0] in rows and (not columns or place[1] in columns)
    ]


def _wanted(table: Table, open_: set[CellId | str], claims: Mapping[str, Claim]) -> set[CellId]:
    """Cells that something open needs, and those that their numbers are made of or relative to."""
    wanted: set[CellId] = set()
    for thing in open_:
        wanted |= set(_cells_of(table, claims[thing])) if isinstance(thing, str) else {thing}
    wanted |= {p for place in wanted for p in behind(table.spec, *place, table.protocol)}
    references = ((table.spec.reference(column), column) for _, column in wanted)
    return wanted | {(row, column) for row, column in references if row is not None}


def decided(table: Table, course: Course) -> Table:
    """The table with the verdicts of its looks.

    Args:
        table: not judged, with the seeds of ``course``.
        course: of this table.
    """
    if not course.taken:
        return _not_looked_at(replace(table, remarks=[*table.remarks, course.text()]))
    alphas = dict(zip(course.looks.seeds, course.looks.alphas, strict=True))

    def level(column: str) -> float:
        """Of the column's last looks the smallest, as rows may have been looked at differently."""
        seeds = {n for (_, name), n in course.seeds.items() if name == column}
        return min((alphas[n] for n in seeds), default=min(alphas.values()))

    judged = judge_plainly(table, level)
    cells = dict(judged.cells)
    for place, verdict in course.cells.items():
        marks = [*verdict.marks, _mark(course, place)]
        plain = cells[place].judged
        bold = plain is not None and plain.bold
        cells[place] = replace(cells[place], judged=replace(verdict, marks=marks, bold=bold))
    claims = [
        replace(c, marks=[*c.marks, _mark(course, claim.id)])
        if (c := course.claims.get(claim.id)) is not None
        else claim
        for claim in judged.claims
    ]
    remarks = [*judged.remarks, course.text()]
    return with_claims(replace(judged, cells=cells, remarks=remarks), claims)


_NOTHING_YET: dict[str, Any] = {
    **dict.fromkeys(("effect", "p", "wins", "ratio", "needed", "why")),
    "comparisons": [],
}
"""Fields of a claim that an effect is told by."""


def _not_looked_at(table: Table) -> Table:
    """A table before its first look: its numbers, of which nothing is said yet."""
    judged, text = judge_plainly(table), "before the first look"
    cells = {
        place: replace(
            cell,
            judged=Judged("partial", text, one.reading, marks=one.marks, median=one.median)
            if (one := cell.judged) is not None and one.kind in JUDGED
            else one and replace(one, bold=False),
        )
        for place, cell in judged.cells.items()
    }
    claims = [
        replace(claim, verdict="partial", text=text, **_NOTHING_YET)
        if claim.effect is not None
        else claim
        for claim in judged.claims
    ]
    return with_claims(replace(judged, cells=cells), claims)


def _mark(course: Course, thing: CellId | str) -> str:
    for how, at in (("settled", course.settled), ("dropped", course.dropped)):
        if thing in at:
            return f"{how} at {course.looks.seeds[at[thing] - 1]} seeds"
    return f"open at {course.looks.seeds[course.taken - 1]} seeds"


def followed(grid: Grid, fixed: Looks, records_of: Callable[[Grid], Mapping[str, Record]]) -> Grid:
    """A planned table with the seeds that its looks have come to.

    Args:
        grid: with all settings chosen that can be.
        fixed: its looks.
        records_of: gives the records of a table's runs.
    """
    most = fixed.seeds[-1]
    whole = replace(grid, seeds=extended(grid.spec, grid.protocol, most), n_seeds={}, course=None)
    records = records_of(whole)
    course = follow(lambda n_seeds: build(replace(whole, n_seeds=n_seeds), records), fixed)
    seeds = dict.fromkeys(whole.cells, fixed.seeds[0]) | course.seeds
    return replace(whole, n_seeds=seeds, course=course)


def waiting_for(grid: Grid) -> Grid:
    """Of a table that is run until it is decided, what the next look needs; nothing else."""
    assert grid.course is not None
    return replace(grid, n_seeds=dict.fromkeys(grid.cells, 0) | grid.course.needed)


# Fixing them


def extended(spec: TableSpec, protocol: str, n: int) -> list[int]:
    """The first ``n`` seeds of a protocol; beyond those of the table file they go on counting.

    Raises:
        UserError: where they would run into the tuning seeds.
    """
    seeds = spec.seed_list(protocol)[:n]
    tuning = set(spec.select.seed_list()) if spec.select else set[int]()
    following = max(spec.seed_list(protocol)) + 1
    while len(seeds) < n:
        if following in tuning:
            raise UserError(f"select.seeds: {following} would be a seed of the table's numbers too")
        seeds.append(following)
        following += 1
    return seeds


def load(file: Path) -> Looks | None:
    """The looks that were fixed, None where none were.

    Raises:
        UserError: for a file that is broken.
    """
    try:
        content = json.loads(file.read_bytes())
        seeds, fixed = content["looks"], content["fixed"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{file}: cannot be read; restore it, or remove the table's runs") from None
    whole = isinstance(seeds, list) and seeds and all(type(n) is int and n > 0 for n in seeds)
    if not whole or seeds != sorted(set(seeds)) or not isinstance(fixed, str):
        raise UserError(f"{file}: looks: expected ascending numbers of seeds")
    return Looks(seeds, fixed)


def dump(fixed: Looks) -> str:
    """Text of the file that keeps looks."""
    return json.dumps({"looks": fixed.seeds, "fixed": fixed.fixed}) + "\n"


def fix(file: Path, most: int | None, today: str, *, started: bool) -> Looks:
    """Fix the looks, or find them fixed.

    Args:
        file: of :func:`retable.tables.collect.looks_of`.
        most: seeds there may be; as fixed, or 20, where left out.
        today: as written down.
        started: whether runs of the table are there already.

    Raises:
        UserError: where other looks are fixed, or the table has been looked at without any.
    """
    known = load(file)
    if most is not None and most < 2:
        raise UserError(f"--max-seeds {most}: two at least, one run decides nothing")
    if known is not None:
        if most is not None and most != known.seeds[-1]:
            raise UserError(
                f"--max-seeds {most}: looks up to {known.seeds[-1]} seeds were fixed on"
                f" {known.fixed}, and the error is spent over those ({file}); go on without"
                " --max-seeds, or in another folder (paths.runs=...)"
            )
        return known
    if started:
        raise UserError(
            "--until-decided: runs of this table are there already, and looks have to be fixed"
            " before the first one; use another folder (paths.runs=...)"
        )
    most = DEFAULT_MOST if most is None else most
    fixed = Looks(looks(most), today)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside(file) as own:
            own.write_text(dump(fixed), encoding="utf-8")
            file.hardlink_to(own)
    except FileExistsError:  # another launch has fixed them meanwhile
        return fix(file, most, today, started=started)
    return fixed
