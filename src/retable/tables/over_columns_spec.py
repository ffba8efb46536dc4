"""Columns made of a row's numbers in other columns: their schema, their parts, their refusals.

Such a column plans no runs. Its cells are computed in :mod:`retable.tables.over_columns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, model_validator

from retable.tables.part import Grade, Part, Words
from retable.util.errors import nearest

if TYPE_CHECKING:
    from retable.tables.spec import TableSpec
    from retable.tables.spec_parts import Column

Kind = Literal["relative_change", "relative_spread", "mean_rank"]
CellId = tuple[str, str]

METRICS: dict[str, dict[str, Any]] = {
    "relative_change": {"title": "mean relative change", "unit": "%"},
    "relative_spread": {"title": "spread of the relative changes", "unit": "%"},
    "mean_rank": {"title": "mean rank", "unit": ""},
}
"""What the numbers of a kind are, where the table file has no metric of its name."""

_OF_RUNS = ("experiment", "overrides", "step", "epoch", "result_row", "seeds")


class Base(Part):
    """What relative changes are from: a row of the table, or numbers that stand in its file."""

    row: str | None = Field(None, description="of the table; the mean over its seeds is the base")
    values: dict[str, float] | None = Field(
        None, description="by column, in the unit that it is shown in; instead of a row"
    )
    where: Words | None = Field(None, description="place that the values are from")
    grade: Grade | None = Field(None, description="who vouches for the values")

    @model_validator(mode="after")
    def _one(self) -> Base:
        if (self.row is None) == (self.values is None):
            raise ValueError("row, values: give one of them")
        given = self.where is not None and self.grade is not None
        if self.values is not None and not given:
            raise ValueError("where, grade: values come with both, as reported numbers do")
        if self.row is not None and (self.where or self.grade):
            raise ValueError("where, grade: are of values, and the base is a row")
        return self


class OverColumns(Part):
    """A number per row and seed, made of those that the row has in other columns."""

    kind: Kind
    columns: list[str] = Field(min_length=1, description="of runs' numbers")
    base: Base | None = Field(None, description="of relative changes: a row, or values")
    exclude: list[str] = Field([], description="rows that are not ranked")

    @model_validator(mode="before")
    @classmethod
    def _short_base(cls, values: Any) -> Any:
        """A base may be written as the name of its row."""
        if isinstance(values, dict) and isinstance(cast("Any", values).get("base"), str):
            return {**values, "base": {"row": values["base"]}}
        return cast("Any", values)

    @model_validator(mode="after")
    def _fits(self) -> OverColumns:
        if self.kind == "mean_rank" and self.base is not None:
            raise ValueError("base: ranks have none; leave it out, or kind: relative_change")
        if self.kind != "mean_rank" and self.base is None:
            raise ValueError("base: is missing: a row, such as the single-task one, or its values")
        if self.kind != "mean_rank" and self.exclude:
            raise ValueError("exclude: is of kind mean_rank, which compares rows")
        if self.kind == "relative_spread" and len(self.columns) < 2:
            raise ValueError("columns: a spread is over two or more")
        return self

    @property
    def base_row(self) -> str | None:
        """Row that changes are from; None where they are from fixed values, or of ranks."""
        return None if self.base is None else self.base.row


# What a table file may leave out


def without_runs(values: Any) -> Any:
    """A column as written, with what one over others need not say."""
    if not isinstance(values, dict) or cast("Any", values).get("over_columns") is None:
        return cast("Any", values)
    given = cast("dict[str, Any]", values)
    for key in _OF_RUNS:
        if given.get(key) not in (None, [], {}):
            raise ValueError(f"{key}: is of runs, and over_columns plans none; leave it out")
    return {"metric": _kind_of(given), **given, "experiment": {}}


def with_metrics(values: Any) -> Any:
    """A table file as written, with the metrics that columns over others are shown by."""
    if not isinstance(values, dict):
        return values
    given = cast("dict[str, Any]", values)
    metrics, columns = given.get("metrics"), given.get("columns")
    if not isinstance(metrics, dict) or not isinstance(columns, dict):
        return given
    own = cast("dict[str, Any]", metrics)
    kinds = [_kind_of(column) for column in cast("dict[str, Any]", columns).values()]
    added = {
        kind: {"key": kind, "direction": "min", "decimals": 2, **METRICS[kind]}
        for kind in kinds
        if kind in METRICS and kind not in own
    }
    return {**given, "metrics": {**own, **added}} if added else given


def _kind_of(column: Any) -> str:
    """Kind of a column as written, which stands for its metric; empty where it names one."""
    if not isinstance(column, dict):
        return ""
    given = cast("dict[str, Any]", column)
    over = given.get("over_columns")
    if "metric" in given or not isinstance(over, dict):
        return ""
    kind = cast("dict[str, Any]", over).get("kind")
    return kind if isinstance(kind, str) else ""


# Parts


def ranked(spec: TableSpec, column: str, protocol: str) -> list[str]:
    """Rows that are ranked: run in all of the columns and in none of ``exclude``."""
    over = spec.columns[column].over_columns
    assert over is not None
    return [
        row for row in spec.rows if row not in over.exclude and _has(spec, row, column, protocol)
    ]


def behind(spec: TableSpec, row: str, column: str, protocol: str) -> list[CellId]:
    """Cells that a cell is made of; empty where it is none over other columns, or not there.

    The base's own changes are 0 by construction, so that its row has no cell.
    """
    over = spec.columns[column].over_columns
    if over is None or row == over.base_row or row in over.exclude:
        return []
    rows = [row] if over.base_row is None else [row, over.base_row]
    if any(not _has(spec, one, column, protocol) for one in rows):
        return []
    if over.kind == "mean_rank":
        rows = ranked(spec, column, protocol)
    return [(one, each) for one in rows for each in over.columns]


def _has(spec: TableSpec, row: str, column: str, protocol: str) -> bool:
    """Whether a row is run in a column over others and in all of those."""
    over = spec.columns[column].over_columns
    assert over is not None
    runs_in = spec.rows[row].runs_in
    there = all(runs_in(one) for one in over.columns)
    # The base's row need not name the column, in which it has no cell.
    named = runs_in(column) or row == over.base_row
    return there and named and spec.experiment(column, protocol, row) is not None


# Refusals


def problems(spec: TableSpec) -> Iterator[tuple[list[str], str]]:
    """Columns over others that could have no number; a path of keys, and what is wrong there."""
    plain = [name for name, column in spec.columns.items() if column.over_columns is None]
    for name, column in spec.columns.items():
        over = column.over_columns
        if over is None:
            continue
        path = ["columns", name, "over_columns"]
        yield from _of_names(spec, over, plain, path)
        yield from _of_metrics(spec, over, path)
        yield from _of_own_metric(spec, name, column, over)
        yield from _of_rows(spec, name, over, path)


def _of_names(
    spec: TableSpec, over: OverColumns, plain: list[str], path: list[str]
) -> Iterator[tuple[list[str], str]]:
    for one in over.columns:
        if one not in spec.columns:
            yield [*path, "columns"], f"no column '{one}'{nearest(one, plain)}"
        elif one not in plain:
            yield (
                [*path, "columns"],
                f"column '{one}' is over columns itself; name columns of runs' numbers, such as"
                f" {', '.join(plain[:3])}",
            )
        if over.columns.count(one) > 1:
            yield [*path, "columns"], f"column '{one}' stands there twice"
    for key, names in (("exclude", over.exclude), ("base", [over.base_row])):
        for row in names:
            if row is not None and row not in spec.rows:
                yield [*path, key], f"no row '{row}'{nearest(row, spec.rows)}"
    values = over.base.values if over.base is not None else None
    if values is None:
        return
    for one in values:
        if one not in over.columns:
            hint = nearest(one, over.columns)
            yield [*path, "base", "values", one], f"no column '{one}' in over_columns.columns{hint}"
    for one in over.columns:
        if one not in values:
            yield [*path, "base", "values"], f"no value of column '{one}'"
        elif values[one] <= 0:
            what = f"{values[one]:g}: a relative change is from a positive number"
            yield [*path, "base", "values", one], what


def _of_metrics(
    spec: TableSpec, over: OverColumns, path: list[str]
) -> Iterator[tuple[list[str], str]]:
    for one in over.columns:
        metric = spec.metrics[spec.columns[one].metric]
        named = f"metric '{spec.columns[one].metric}' of column '{one}'"
        if metric.relative_to is not None:
            what = f"{named} is relative to a row itself (relative_to); use a metric that is not"
            yield [*path, "columns"], what
        if metric.direction == "none" and (metric.ideal is None or over.kind != "mean_rank"):
            what = f"{named} does not say what is better: give it direction: min or max"
            yield [*path, "columns"], what


def _of_own_metric(
    spec: TableSpec, name: str, column: Column, over: OverColumns
) -> Iterator[tuple[list[str], str]]:
    metric = spec.metrics[column.metric]
    path, unit = ["metrics", column.metric], METRICS[over.kind]["unit"]
    of = f"column {name}, which is over others"
    if metric.key != over.kind:
        yield [*path, "key"], f"is '{metric.key}', and {of}, needs key: {over.kind}"
    if metric.direction != "min":
        yield [*path, "direction"], f"is '{metric.direction}', and less is better in {of}: min"
    if metric.unit != unit:
        yield [*path, "unit"], f"is '{metric.unit}', and that of {of}, is '{unit}'"
    if metric.relative_to is not None:
        yield [*path, "relative_to"], f"has no place in {of}; leave it out"
    fixed = all(spec.metrics[spec.columns[one].metric].deterministic for one in over.columns)
    if metric.deterministic and not fixed:
        yield [*path, "deterministic"], f"is true, and not of all that {of}, is made of"


def _of_rows(
    spec: TableSpec, name: str, over: OverColumns, path: list[str]
) -> Iterator[tuple[list[str], str]]:
    base = over.base_row
    missing = [one for one in over.columns if base and not spec.rows[base].runs_in(one)]
    if missing:
        yield [*path, "base"], f"row '{base}' is not run in column '{missing[0]}'"
    for row, part in spec.rows.items():
        lacks = [one for one in over.columns if not part.runs_in(one)]
        if part.run and lacks and name in (part.columns or []):
            what = f"names '{name}' and not '{lacks[0]}', which that is made of"
            yield ["rows", row, "columns"], what
    protocols = [one for one in spec.protocols() if spec.experiment(name, one) is not None]
    if not protocols:
        yield [*path, "columns"], "no protocol has an experiment for all of them"
    for protocol in protocols if over.kind == "mean_rank" else []:
        if len(rows := ranked(spec, name, protocol)) < 2:
            only = f"only {rows[0]}" if rows else "no row"
            yield path, f"ranks are among two rows or more, and {only} has all columns ({protocol})"
