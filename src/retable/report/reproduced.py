"""What came out of the quick tables, on one screen: a line for each, and what to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retable.report import counts, formatting
from retable.runs.equality import TOLERANCE, Kind, circumstances, compare
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

    All by key, as tables share runs.

    Attributes:
        kinds: equal bit for bit, within the tolerance of another machine, or different.
        unexplained: runs that are not bitwise equal although device, threads, code, packages and
            processor are the same, in words; none is expected.
        differing: runs that differ by more than the tolerance under other circumstances.
    """

    kinds: dict[str, Kind] = field(default_factory=dict[str, Kind])
    unexplained: dict[str, str] = field(default_factory=dict[str, str])
    differing: dict[str, str] = field(default_factory=dict[str, str])


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
        said.kinds[key] = compared.kind
        if compared.kind == _SAME:
            continue
        name = run_name(here.experiment or here.paper, here.seed, key)
        line = f"{grid.name}, {name}{_VALUES}{compared.detail}"
        if not circumstances(here, published):
            said.unexplained[key] = line
        elif compared.kind != _NEAR:
            said.differing[key] = f"{line} ({'; '.join(compared.context)})"
    return said


def summary(done: Sequence[Reproduced]) -> str:
    """A line for each table; before them runs that should have been the published ones."""
    kinds: dict[str, Kind] = {}
    unexplained: dict[str, str] = {}
    differing: dict[str, str] = {}
    for one in done:
        if one.agreement is not None:
            kinds |= one.agreement.kinds
            unexplained |= one.agreement.unexplained
            differing |= one.agreement.differing
    lines = ["## What came out", ""]
    if unexplained:
        lines += [
            f"**Other bits than published in {counted(len(unexplained), 'run')},** although code,"
            " packages, threads and processor are the same:",
            "",
            *_each(unexplained),
            "",
        ]
    lines += [*_aligned([_HEAD, *map(_parts, done)]), ""]
    if kinds:
        count = Counter(kinds.values())
        lines.append(
            f"Beside the published runs: of {counted(len(kinds), 'run')} {count[_SAME]} bit for bit"
            f" the same, {count[_NEAR]} the same within {TOLERANCE:g} as on another machine,"
            f" {count['different']} with other numbers."
        )
    if differing:
        lines += [
            "Other numbers than published, made on another machine, with other packages or by other"
            " code (in brackets); that alone can cause them and is no sign of a fault:",
            "",
            *_each(differing),
        ]
    return "\n".join([*lines, _where(done), ""])


def _where(done: Sequence[Reproduced]) -> str:
    """Which tables were run here, and what became of the others."""
    away = [one for one in done if one.agreement is None]
    said = [f"Run here: {counted(len(done) - len(away), 'table')}."]
    for what, some in (
        ("From published records", [one for one in away if one.runs]),
        ("Neither run nor published", [one for one in away if not one.runs]),
    ):
        if some:
            names = ", ".join(one.table.name for one in some)
            said.append(f"{what}, as their data cannot be had: {names}.")
    said.append("All published tables: results/README.md.")
    if any(len(one.grid.seeds) < _all_seeds(one) for one in done):
        said.append("All seeds of these: retable reproduce --full.")
    return " ".join(said)


def _all_seeds(one: Reproduced) -> int:
    return len(one.table.spec.seed_list(one.table.protocol))


_VALUES = ": here / published: "

_DETAILED = 20
"""Runs that are listed with their numbers; the others are named."""


def _each(lines: Mapping[str, str]) -> list[str]:
    """All of the runs; many on another machine are no news one by one."""
    several = list(lines.values())
    shown = [f"- {line}" for line in several[:_DETAILED]]
    more = [line.partition(_VALUES)[0] for line in several[_DETAILED:]]
    return [*shown, *([f"- likewise: {'; '.join(more)}"] if more else [])]


_HEAD = ("table", "protocol", "seeds", "runs", "cells", "claims")


def _parts(one: Reproduced) -> tuple[str, ...]:
    tally = counts.of(one.table)
    n, of = len(one.grid.seeds), _all_seeds(one)
    return (
        one.table.name + ("" if one.agreement else " (published)" if one.runs else " (not run)"),
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
