"""Validation of table files when they are read: finds what could never be judged."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from retable.config import source_files
from retable.tables import looks_spec, over_columns_spec
from retable.tables.cell_map_spec import CellMap
from retable.tables.claim_spec import Claim
from retable.tables.figure_spec import Scatter
from retable.tables.heat_spec import Heat, Image
from retable.tables.spec_parts import Metric, Select
from retable.util.errors import nearest

if TYPE_CHECKING:
    from retable.tables.spec import TableSpec

Problem = tuple[list[str], str]
"""Path of keys in the file, and what is wrong there."""

_IN_PARTS = {"ordering", "all_of", "not_worse", "threshold", "ratio", "trend", "interaction"}
_COMPARES_ROWS = {"ordering", "all_of", "not_worse", "interaction", "ratio"}


def problems(spec: TableSpec) -> Iterator[Problem]:
    """Numbers and claims that nothing could be said of, whatever the runs give."""
    # First of all: what a column is over is named by all that comes after.
    yield from over_columns_spec.problems(spec)
    yield from _of_select(spec)
    yield from _without_margin(spec)
    yield from _of_seeds(spec)
    yield from looks_spec.problems(spec)
    yield from _of_figure(spec)
    yield from _of_quick(spec)
    for index, claim in enumerate(spec.claims):
        for part in claim.each():
            for key, message in _of_claim(spec, part):
                yield ["claims", str(index), key], message
        if claim.also and claim.kind not in _IN_PARTS:
            yield ["claims", str(index), "also"], f"a claim of kind {claim.kind} has one comparison"


def _without_margin(spec: TableSpec) -> Iterator[Problem]:
    """Reported numbers for which no rule gives the difference that would not matter."""
    for row, cells in spec.reported.items():
        for column, reported in cells.items():
            metric = spec.metrics[spec.columns[column].metric]
            compared = spec.rows[row].runs_in(column) and spec.experiment(column, "paper", row)
            if metric.deterministic or not compared:
                continue
            spreads = any(c[column].spread for c in spec.reported.values() if column in c)
            given = reported.margin or spec.columns[column].margin or metric.margin
            if not (given or metric.n_test or spreads or metric.positive):
                made = spec.columns[column].over_columns is not None
                yield (
                    [
                        *(
                            ["columns", column]
                            if made
                            else ["metrics", spec.columns[column].metric]
                        ),
                        "margin",
                    ],
                    f"is missing, and row {row}, column {column} has a reported number: give the"
                    " difference that would not matter, n_test (of a proportion), or positive: true"
                    " (5 % of the reported value)",
                )


def _of_select(spec: TableSpec) -> Iterator[Problem]:
    """Choices of settings by what nobody knows the better of, or on the table's own seeds."""
    select = spec.select
    if select is None:
        return
    for name in select.rows or []:
        if name not in spec.rows:
            yield ["select", "rows"], f"no row '{name}'{nearest(name, spec.rows)}"
    if direction_of(spec, select) is None:
        yield (
            ["select", "by"],
            f"no metric of the table says whether '{select.by}' is to be small or large; give"
            " select.direction",
        )
    tuning = set(select.seed_list())
    for protocol in spec.protocols():
        shared = sorted(tuning & set(spec.seed_list(protocol)))
        if shared:
            yield (
                ["select", "seeds"],
                f"seed {shared[0]} is also a seed of the table's numbers (protocol {protocol});"
                " they have to be disjoint",
            )
    for kind, parts in (("columns", spec.columns), ("rows", spec.rows)):
        for name, part in parts.items():
            if kind == "rows" and spec.selects(name) is None:
                continue
            cure = ", or name in select.rows only the rows that choose" if kind == "rows" else ""
            for text in part.overrides:
                key = text.lstrip("+~").partition("=")[0]
                if key in select.over:
                    what = f"'{key}' is chosen by select.over; leave it out{cure}"
                    yield [kind, name, "overrides"], what


def direction_of(spec: TableSpec, select: Select) -> str | None:
    """Whether the chosen-by metric is to be small or large; None where nothing says so."""
    if select.direction is not None:
        return select.direction
    name = select.by.partition("/")[2]
    found = {m.direction for m in spec.metrics.values() if m.key == f"test/{name}"} - {"none"}
    return found.pop() if len(found) == 1 else None


def _of_seeds(spec: TableSpec) -> Iterator[Problem]:
    """Rows and columns with more seeds than there are, or of a protocol that there is not."""
    parts = [("rows", spec.rows), ("columns", spec.columns)]
    for kind, name, part in ((kind, name, p) for kind, all_ in parts for name, p in all_.items()):
        own = part.seeds
        if own is None:
            continue
        limits = own if isinstance(own, dict) else dict.fromkeys(spec.protocols(), own)
        for protocol, count in limits.items():
            if protocol not in spec.protocols():
                hint = nearest(protocol, spec.protocols())
                yield [kind, name, "seeds", protocol], f"no protocol '{protocol}'{hint}"
            elif isinstance(own, dict) and count > len(spec.seed_list(protocol)):
                most = len(spec.seed_list(protocol))
                yield [kind, name, "seeds", protocol], f"{count}, and the table has {most} seeds"
        if isinstance(own, int) and all(own > len(spec.seed_list(p)) for p in limits):
            most = max(len(spec.seed_list(p)) for p in limits)
            yield [kind, name, "seeds"], f"{own}, and the table has {most} seeds"


def _of_quick(spec: TableSpec) -> Iterator[Problem]:
    """Parts for ``make reproduce`` that the table has not."""
    quick = spec.quick
    if quick is None:
        return
    protocols = spec.protocols()
    if quick.protocol not in protocols:
        hint = nearest(quick.protocol, protocols)
        yield ["quick"], f"no protocol '{quick.protocol}'{hint}"
        return
    for key, given, known in (
        ("rows", quick.rows, spec.rows),
        ("columns", quick.columns, spec.columns),
    ):
        if given is None:
            continue
        if not given:
            yield ["quick", key], f"is empty; left out it is all {key}"
        for name in given:
            if name not in known:
                yield ["quick", key], f"no {key[:-1]} '{name}'{nearest(name, known)}"
                return
            if given.count(name) > 1:
                yield ["quick", key], f"{key[:-1]} '{name}' stands there twice"
                return
    if not any(
        spec.rows[row].runs_in(column) and spec.experiment(column, quick.protocol, row)
        for row in quick.rows or spec.rows
        for column in quick.columns or spec.columns
    ):
        yield ["quick"], f"none of these rows is run in these columns under {quick.protocol}"
    most = len(spec.seed_list(quick.protocol))
    if quick.seeds is not None and quick.seeds > most:
        yield ["quick", "seeds"], f"{quick.seeds} is more than the {most} of the table"


def _of_figure(spec: TableSpec) -> Iterator[Problem]:
    """Names in a figure that are none of the table."""
    if spec.figure is None:
        return
    if isinstance(spec.figure, Scatter):
        yield from _of_scatter(spec, spec.figure)
        return
    if isinstance(spec.figure, CellMap):
        yield from _of_cell_map(spec, spec.figure)
        return
    if isinstance(spec.figure, Heat | Image):
        yield from _of_arrays(spec, spec.figure)
        return
    across = spec.figure.lines == "rows"
    lines, points = (spec.rows, spec.columns) if across else (spec.columns, spec.rows)
    line, point = ("row", "column") if across else ("column", "row")
    named = [(["groups", title], g, lines, line) for title, g in spec.figure.groups.items()]
    if spec.figure.marks is not None:
        named.append((["marks"], [spec.figure.marks], spec.columns, "column"))
    for index, panel in enumerate(spec.figure.panels):
        named.append((["panels", str(index), "points"], list(panel.points), points, point))
        named.append((["panels", str(index), "only"], panel.only or [], lines, line))
    for path, names, known, what in named:
        for name in names:
            if name not in known:
                key = [name] if path[-1] == "points" else []
                yield ["figure", *path, *key], f"no {what} '{name}'{nearest(name, known)}"


def _of_scatter(spec: TableSpec, figure: Scatter) -> Iterator[Problem]:
    for key, names in (("only", figure.only or []), ("guides", figure.guides)):
        for name in names:
            if name not in spec.rows:
                yield ["figure", key], f"no row '{name}'{nearest(name, spec.rows)}"
    for index, pair in enumerate(figure.panels):
        for key, name in (("x", pair.x), ("y", pair.y)):
            if name not in spec.columns:
                path = ["figure", "panels", str(index), key]
                yield path, f"no column '{name}'{nearest(name, spec.columns)}"


def _of_cell_map(spec: TableSpec, figure: CellMap) -> Iterator[Problem]:
    for index, panel in enumerate(figure.panels):
        path = ["figure", "panels", str(index)]
        for key, names, known in (
            ("rows", panel.rows, spec.rows),
            ("columns", panel.columns, spec.columns),
        ):
            unknown = next((name for name in names if name not in known), None)
            if unknown is not None:
                yield [*path, key, unknown], f"no {key[:-1]} '{unknown}'{nearest(unknown, known)}"
        metrics = [spec.columns[name].metric for name in panel.columns if name in spec.columns]
        first, *others = dict.fromkeys(metrics) or [""]
        if others:
            yield (
                [*path, "columns"],
                f"has metrics '{first}' and '{others[0]}', which have no scale of colours in"
                " common; give each a panel",
            )


def _of_arrays(spec: TableSpec, figure: Heat | Image) -> Iterator[Problem]:
    for index, panel in enumerate(figure.panels):
        path = ["figure", "panels", str(index)]
        if panel.row not in spec.rows:
            yield [*path, "row"], f"no row '{panel.row}'{nearest(panel.row, spec.rows)}"
        elif panel.column not in spec.columns:
            near = nearest(panel.column, spec.columns)
            yield [*path, "column"], f"no column '{panel.column}'{near}"
        elif not spec.rows[panel.row].runs_in(panel.column):
            yield path, f"row '{panel.row}' is not run in column '{panel.column}': no array is left"
        elif spec.columns[panel.column].over_columns is not None:
            yield (
                [*path, "column"],
                f"column '{panel.column}' has no runs of its own: name one it has",
            )


def _of_claim(spec: TableSpec, claim: Claim) -> Iterator[tuple[str, str]]:
    columns = claim.columns() or [
        c for c in spec.columns if all(_has_number(spec, row, c) for row in claim.rows())
    ]
    others = [claim.than] if isinstance(claim.than, str) else claim.than or []
    metrics = [spec.metrics[spec.columns[column].metric] for column in columns]
    if claim.kind in _COMPARES_ROWS:
        blind = next((m for m in metrics if m.direction == "none" and m.ideal is None), None)
        if blind is not None:
            name = next(n for n, m in spec.metrics.items() if m is blind)
            yield "kind", f"metric '{name}' does not say what is better: give direction or ideal"
    if claim.kind == "ratio" and any(m.ideal is not None for m in metrics):
        yield "kind", "a ratio is not of distances from an ideal: use ordering or threshold"
    if claim.kind in {"not_worse", "tie"} and claim.margin is None:
        for column, metric in zip(columns, metrics, strict=True):
            if spec.columns[column].margin is None and metric.margin is None:
                yield "margin", "is missing, and neither column nor metric has one"
    if claim.kind in {"ratio", "tie", "spread", "interaction"} and len(others) != 1:
        yield "than", f"a claim of kind {claim.kind} compares with one row, not {len(others)}"
    if claim.kind in {"threshold", "trend"} and claim.better is None:
        yield "better", "is missing: the row that the claim is about"
    if claim.kind == "interaction" and len(claim.columns()) != 2:
        yield "on", "an interaction is between two columns, the one with the larger gain first"
    if claim.kind == "trend":
        yield from _of_trend(claim, columns, others)
    if claim.kind == "function":
        yield from _of_function(spec, claim)
    yield from _units(claim, metrics)
    for protocol in claim.not_in:
        if protocol not in spec.protocols():
            yield "not_in", f"no protocol '{protocol}'{nearest(protocol, spec.protocols())}"


def _has_number(spec: TableSpec, row: str, column: str) -> bool:
    return spec.rows[row].runs_in(column) or column in spec.reported.get(row, {})


def _of_trend(claim: Claim, columns: list[str], others: list[str]) -> Iterator[tuple[str, str]]:
    if others and len(columns) != 1:
        yield "on", "a trend over rows is in one column"
    points = 1 + len(others) if others else len(columns)
    if points < 2:
        yield "on", "a trend needs two points or more"
    if claim.positions is not None and len(claim.positions) != points:
        yield "positions", f"{len(claim.positions)} of them for {points} points"


def _of_function(spec: TableSpec, claim: Claim) -> Iterator[tuple[str, str]]:
    module = f"retable.papers.{spec.paper}.claims"
    tree = source_files.module_tree(module) if source_files.module_file(module) else None
    known = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)] if tree else []
    if claim.function not in known:
        yield (
            "function",
            f"no function '{claim.function}' in {module}"
            + (nearest(claim.function or "", known) if known else ""),
        )


def _units(claim: Claim, metrics: list[Metric]) -> Iterator[tuple[str, str]]:
    """Sums over columns make sense in one unit only."""
    over_columns = claim.average or claim.kind == "interaction"
    over_columns = over_columns or (claim.kind == "trend" and len(metrics) > 1)
    if over_columns and len({(m.key, m.unit) for m in metrics}) > 1:
        yield "on", "columns of different metrics cannot be added"
