"""A table as JSON and CSV; ``docs/outputs.md`` says what each key and field holds."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from typing import Any, cast

from retable.report import candidates, claims_text, formatting
from retable.tables.aggregate import Cell, Table
from retable.tables.spec_parts import Column

CSV_TYPES: dict[str, type] = {
    "table": str,
    "protocol": str,
    "row": str,
    "column": str,
    "metric": str,
    "unit": str,
    "mean": float,
    "std": float,
    "n": int,
    "n_planned": int,
    "median": float,
    "reported": str,
    "reported_spread": str,
    "reported_spread_kind": str,
    "reported_n": int,
    "grade": str,
    "where": str,
    "verdict": str,
    "shown": str,
    "d": float,
    "low": float,
    "high": float,
    "level": float,
    "se": float,
    "df": float,
    "p": float,
    "h": float,
    "rule": str,
    "margin": float,
    "margin_origin": str,
    "reading": str,
    "seeds_needed": int,
    "seeds_needed_text": str,
    "bold": bool,
    "marks": str,
    "why": str,
}
"""Columns of a line per cell; reported numbers are text, as they are printed."""


def as_json(table: Table, *, source: str) -> dict[str, Any]:
    """Everything of a table as plain values; a number that is none or infinite is None.

    Args:
        table: judged.
        source: where the records come from, ``runs`` or ``results``.
    """
    spec = table.spec
    values: dict[str, Any] = {
        "table": table.name,
        "paper": spec.paper,
        "title": spec.title,
        "source": spec.source.model_dump(),
        "protocol": table.protocol,
        "records_from": source,
        "differs": spec.differs,
        "notes": spec.notes,
        "remarks": table.remarks,
        "rows": [
            {"name": n, "title": r.title, "quoted": r.quoted, "note": r.note}
            for n, r in spec.rows.items()
        ],
        "columns": [_column(n, c) for n, c in spec.columns.items()],
        "metrics": {n: m.model_dump() for n, m in spec.metrics.items()},
        "cells": [_cell(cell) for cell in table.cells.values()],
        "claims": [claims_text.as_json(claim) for claim in table.claims],
        "tally": None if table.tally is None else _tally(table),
        "lost": [
            {"key": key, "seed": r.seed, "status": r.status.value, "error": r.error}
            for key, r in table.lost.items()
        ],
        "provenance": formatting.provenance(table),
    }
    return finite(values)


def finite(value: Any) -> Any:
    """Plain values without NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in cast("list[Any]", value)]
    return value


def _column(name: str, column: Column) -> dict[str, Any]:
    over = column.over_columns
    return {
        "name": name,
        "title": column.title,
        **({} if over is None else {"over_columns": over.model_dump()}),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    fields = {"value", "spread", "spread_kind", "n", "grade", "where", "note"}
    judged = cell.judged
    return {
        "row": cell.row,
        "column": cell.column,
        "metric": cell.metric,
        "mean": cell.mean,
        "std": cell.std,
        "n": cell.n,
        "n_planned": cell.n_planned,
        "values": {str(seed): value for seed, value in cell.values.items()},
        "reported": None if cell.reported is None else cell.reported.model_dump(include=fields),
        "verdict": None if judged is None else judged.kind,
        "judged": judged_json(cell),
        "marks": cell.marks if judged is None else judged.marks,
        "run_keys": cell.run_keys,
        "lost_keys": cell.lost_keys,
        "selected": cell.selected,
        "candidates": candidates.as_json(cell),
    }


def judged_json(cell: Cell) -> dict[str, Any] | None:
    """Verdict of a cell as plain values, with its interval's bounds; None where there is none."""
    if cell.judged is None:
        return None
    found = cell.judged.difference
    bounds = (None, None) if found is None else (found.low, found.high)
    return asdict(cell.judged) | dict(zip(("low", "high"), bounds, strict=True))


def _tally(table: Table) -> dict[str, Any]:
    assert table.tally is not None
    said = " ".join(formatting.table_tally(table))
    return {**asdict(table.tally), "by_chance": table.tally.by_chance, "text": said}


def as_csv(*tables: Table) -> str:
    """One line per cell, with all of its numbers under :data:`CSV_TYPES`."""
    out = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(out, list(CSV_TYPES), lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for cell in table.cells.values():
            writer.writerow(line(table, cell))
    return out.getvalue()


def line(table: Table, cell: Cell) -> dict[str, Any]:
    """A cell's values under :data:`CSV_TYPES`; what there is not is left out."""
    found: dict[str, Any] = {
        "table": table.name,
        "protocol": table.protocol,
        "row": cell.row,
        "column": cell.column,
        "metric": cell.metric,
        "unit": table.spec.metrics[cell.metric].unit,
        "mean": cell.mean,
        "std": cell.std,
        "n": cell.n,
        "n_planned": cell.n_planned,
        "marks": "; ".join(cell.marks),
    }
    if cell.reported is not None:
        r = cell.reported
        found |= {
            "reported": r.value,
            "reported_spread": r.spread,
            "reported_spread_kind": r.spread_kind,
            "reported_n": r.n,
            "grade": r.grade,
            "where": r.where,
        }
    judged = cell.judged
    if judged is None:
        return found
    found |= {
        "verdict": judged.kind,
        "shown": judged.text,
        "median": judged.median,
        "reading": judged.reading and judged.reading.text,
        "bold": judged.bold,
        "marks": "; ".join(judged.marks),
        "why": judged.why,
    }
    if (diff := judged.difference) is not None:
        numbers = {name: getattr(diff, name) for name in ("d", "low", "high", "se", "df", "p")}
        found |= {**finite(numbers), "level": diff.level, "h": diff.h, "rule": diff.rule}
    if judged.margin is not None:
        found |= {"margin": judged.margin.value, "margin_origin": judged.margin.origin}
    if judged.needed is not None:
        found |= {"seeds_needed": judged.needed.n, "seeds_needed_text": judged.needed.text}
    return found
