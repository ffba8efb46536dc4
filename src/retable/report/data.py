"""A table as JSON and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from retable.report import text
from retable.tables.aggregate import Table

CSV_FIELDS = (
    "row",
    "column",
    "metric",
    "unit",
    "mean",
    "std",
    "n",
    "n_planned",
    "reported",
    "reported_spread",
    "reported_spread_kind",
    "reported_n",
    "grade",
    "where",
    "verdict",
    "marks",
)


def as_json(table: Table, *, source: str) -> dict[str, Any]:
    """Everything of a table as plain values.

    Args:
        table: what to show.
        source: where the records come from, ``runs`` or ``results``.
    """
    spec = table.spec
    return {
        "table": table.name,
        "paper": spec.paper,
        "title": spec.title,
        "source": spec.source.model_dump(),
        "protocol": table.protocol,
        "records_from": source,
        "differs": spec.differs,
        "rows": [{"name": n, "title": r.title, "quoted": r.quoted} for n, r in spec.rows.items()],
        "columns": [{"name": n, "title": c.title} for n, c in spec.columns.items()],
        "metrics": {n: m.model_dump() for n, m in spec.metrics.items()},
        "cells": [
            {
                "row": c.row,
                "column": c.column,
                "metric": c.metric,
                "mean": c.mean,
                "std": c.std,
                "n": c.n,
                "n_planned": c.n_planned,
                "reported": None
                if c.reported is None
                else c.reported.model_dump(
                    include={"value", "spread", "spread_kind", "n", "grade", "where"}
                ),
                "verdict": c.verdict,
                "marks": c.marks,
                "run_keys": c.run_keys,
                "selected": c.selected,
            }
            for c in table.cells.values()
        ],
        "claims": [{**c.model_dump(exclude_defaults=True), "verdict": None} for c in spec.claims],
        "provenance": text.provenance(table),
    }


def as_csv(table: Table) -> str:
    """One line per cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for c in table.cells.values():
        r = c.reported
        writer.writerow(
            [
                c.row,
                c.column,
                c.metric,
                table.spec.metrics[c.metric].unit,
                c.mean,
                c.std,
                c.n,
                c.n_planned,
                r and r.value,
                r and r.spread,
                r and r.spread_kind,
                r and r.n,
                r and r.grade,
                r and r.where,
                c.verdict,
                "; ".join(c.marks),
            ]
        )
    return out.getvalue()
