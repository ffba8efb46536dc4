"""Tables made of plain numbers, for tests of what is said of them."""

from __future__ import annotations

from retable.tables.aggregate import Cell, Table, mean_std
from retable.tables.spec import TableSpec


def spec_of(rows, columns=("x",), reported=None, claims=(), metric=None, **rest):
    """A table file's content: every column has the one metric."""
    return TableSpec.model_validate(
        {
            "paper": "digits",
            "title": "A table",
            "source": {"paper_ref": "Table 1"},
            "metrics": {"error": {"key": "test/error", "direction": "min", **(metric or {})}},
            "seeds": 1,
            "columns": columns
            if isinstance(columns, dict)
            else {c: {"metric": "error", "experiment": "digits/base"} for c in columns},
            "rows": rows if isinstance(rows, dict) else {row: {} for row in rows},
            "reported": reported or {},
            "claims": [{"statement": "It is so", **claim} for claim in claims],
            **rest,
        }
    )


def reported(value, **rest):
    """A reported number of the paper itself."""
    return {"value": value, "grade": "primary", "where": "Table 1", **rest}


def cell_of(spec, row, column, values, planned=None, ended=None, marks=()):
    """A cell with these values by seed; a list stands for seeds 0, 1, 2 ..."""
    by_seed = dict(enumerate(values)) if isinstance(values, list) else dict(values)
    mean, std = mean_std(list(by_seed.values()))
    n_planned = len(by_seed) if planned is None else planned
    number = spec.reported.get(row, {}).get(column)
    return Cell(
        row,
        column,
        spec.columns[column].metric,
        mean,
        std,
        len(by_seed),
        n_planned,
        by_seed,
        number,
        marks=list(marks),
        n_done=len(by_seed),
        ended=ended or {},
    )


def table_of(spec, values, protocol="paper", **cells):
    """A table whose cells have these values, by row and column; other cells are reported only."""
    found = {}
    for row in spec.rows:
        for column in spec.columns:
            if column in values.get(row, {}):
                found[row, column] = cell_of(spec, row, column, values[row][column])
            elif column in spec.reported.get(row, {}):
                found[row, column] = cell_of(spec, row, column, [])
    return Table("digits/made", spec, protocol, found | cells.get("more", {}), {}, 0)
