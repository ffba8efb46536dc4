"""What came out of the quick tables, on one screen: a line for each, and what to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retable.report import formatting
from retable.runs.equality import Kind, circumstances, compare
from retable.runs.records import Record
from retable.tables.aggregate import Table
from retable.tables.collect import from_results
from retable.tables.grid import Grid
from retable.tables.results import Tally
from retable.util.text import counted, run_name

_SAME: Kind = "bitwise equal"
_NEAR: Kind = "equal within tolerance"


@dataclass
class Agreement:
    """Runs here beside the published ones of the same keys.

    Attributes:
        kinds: how many are equal bit for bit, within the tolerance of another machine, different.
        unexplained: runs that are not bitwise equal although device, threads, code, packages and
            processor are the same, in words; none is expected.
        differing: runs that differ by more than the tolerance under other circumstances.
    """

    kinds: Counter[Kind] = field(default_factory=Counter[Kind])
    unexplained: list[str] = field(default_factory=list[str])
    differing: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Reproduced:
    """A quick table as it came out.

    Attributes:
        grid: what was planned.
        table: with verdicts.
        runs: how many records it is of.
        agreement: with the published runs; None where the table is of the published ones.
    """

    grid: Grid
    table: Table
    runs: int
    agreement: Agreement | None


def agreement(grid: Grid, found: Mapping[str, Record]) -> Agreement:
    """Compare records of a table's runs here with the published ones.

    Args:
        grid: the planned table.
        found: by key.
    """
    said = Agreement()
    for key, published in from_results(grid).items():
        if key not in found:
            continue
        here = found[key]
        compared = compare(here, published)
        said.kinds[compared.kind] += 1
        if compared.kind == _SAME:
            continue
        name = run_name(here.experiment or here.paper, here.seed, key)
        line = f"{grid.name}, {name}: here / published: {compared.detail}"
        if not circumstances(here, published):
            said.unexplained.append(line)
        elif compared.kind != _NEAR:
            said.differing.append(f"{line} ({'; '.join(compared.context)})")
    return said


def summary(done: Sequence[Reproduced]) -> str:
    """A line for each table; before them runs that should have been the published ones."""
    agreements = [one.agreement for one in done if one.agreement]
    unexplained = [line for one in agreements for line in one.unexplained]
    differing = [line for one in agreements for line in one.differing]
    lines = ["## What came out", ""]
    if unexplained:
        lines += [
            f"**Other bits than published in {counted(len(unexplained), 'run')},** although code,"
            " packages, threads and processor are the same:",
            "",
            *_first(unexplained),
            "",
        ]
    lines += [*_aligned([_HEAD, *map(_parts, done)]), ""]
    kinds: Counter[Kind] = sum((one.kinds for one in agreements), Counter[Kind]())
    if total := sum(kinds.values()):
        lines.append(
            f"Beside the published runs: of {counted(total, 'run')} {kinds[_SAME]} bit for bit"
            f" the same, {kinds[_NEAR]} the same within 1e-4 as on another machine,"
            f" {kinds['different']} different."
        )
    if differing:
        lines += ["Different under other circumstances:", "", *_first(differing)]
    away = [one.table.name for one in done if one.agreement is None]
    here = len(done) - len(away)
    lines += [
        f"Run here: {counted(here, 'table')}."
        + (f" From published records, as their data cannot be had: {', '.join(away)}." * bool(away))
        + " All published tables: results/README.md. All seeds of these: retable reproduce --full.",
        "",
    ]
    return "\n".join(lines)


_SHOWN = 3


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [f"- {line}" for line in lines[:_SHOWN]] + ([f"- and {more} more"] if more > 0 else [])


_HEAD = ("table", "protocol", "seeds", "runs", "cells", "claims")


def _parts(one: Reproduced) -> tuple[str, ...]:
    tally = one.table.tally or Tally()
    n, of = len(one.grid.seeds), len(one.table.spec.seed_list(one.table.protocol))
    return (
        one.table.name + ("" if one.agreement else " (published)"),
        one.table.protocol,
        str(n) if n == of else f"{n} of {of}",
        str(one.runs),
        _cells(tally),
        formatting.claims_tally(tally).rstrip("."),
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Markdown that is a table in a terminal too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
    return [lines[0], f"| {' | '.join('-' * width for width in widths)} |", *lines[1:]]


def _cells(tally: Tally) -> str:
    if not tally.judged:
        return "none compared"
    return (
        f"{tally.reproduced} =, {tally.consistent} ≈, {tally.undecided} ?,"
        f" {tally.different} better or worse"
    )
