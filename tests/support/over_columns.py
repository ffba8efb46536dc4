"""A table of several tasks: columns over others, with records that nobody has run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.mini import record

NAME = "digits/tasks"
FILE = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "tasks.yaml"
TEXT = """\
paper: digits
title: Two tasks
source: {paper_ref: "Table 1"}
seeds: {paper: 3, smoke: 1}
metrics:
  accuracy: {key: test/accuracy, unit: "%", direction: max, margin: 1.0}
  loss: {key: test/loss, direction: min, margin: 0.1}
columns:
  acc: {metric: accuracy, title: Acc, experiment: {paper: digits/base, smoke: digits/smoke}}
  loss: {metric: loss, title: Loss, experiment: {paper: digits/base}}
  delta_m:
    title: "Δm (%)"
    margin: 0.5
    over_columns: {kind: relative_change, columns: [acc, loss], base: stl}
  uneven:
    over_columns:
      kind: relative_spread
      columns: [acc, loss]
      base: {values: {acc: 50.0, loss: 2}, where: "Table 9", grade: recalled}
  mr:
    title: MR
    margin: 0.5
    over_columns: {kind: mean_rank, columns: [acc, loss], exclude: [stl]}
rows:
  stl: {title: STL, overrides: [model.optimizer.lr=0.01]}
  ls: [model.optimizer.lr=0.02]
  gap: [model.optimizer.lr=0.03]
  pair: [model.optimizer.lr=0.04]
reported:
  stl:
    mr: {value: "4.00", grade: primary, where: "Table 1, row 1"}
  ls:
    delta_m: {value: "12.50", grade: primary, where: "Table 1, row 2"}
    mr: {value: "2.50", grade: primary, where: "Table 1, row 2"}
claims:
  - {id: C1, statement: The gap is better, kind: ordering, better: gap, than: ls, on: delta_m}
"""

VALUES = {
    "stl": [(0.40, 2.0), (0.50, 2.0), (0.60, 2.0)],
    "ls": [(0.50, 2.5), (0.45, 2.5), (0.40, 2.5)],
    "gap": [(0.50, 2.0), (0.60, 1.8), (0.55, 1.9)],
    "pair": [(0.50, 2.0), (0.30, 3.0), (0.55, 2.2)],
}
"""Accuracy and loss by row and seed; the base's means are 50 % and 2."""

DELTA_M = {"ls": [12.5, 17.5, 22.5], "gap": [0, -15, -7.5], "pair": [0, 45, 0]}
"""100/2 ((50 - accuracy) / 50 + (loss - 2) / 2), accuracy in %."""

UNEVEN = {"ls": [12.5, 7.5, 2.5], "gap": [0, 5, 2.5], "pair": [0, 5, 10]}
"""Half of the distance between the two changes."""

MR = {"ls": [2.5, 2, 3], "gap": [1.75, 1, 1.25], "pair": [1.75, 3, 1.75]}
"""Mean of the ranks by accuracy and by loss, of three rows."""


@contextmanager
def written(*changes: tuple[str, str]) -> Iterator[Path]:
    """The table file, with changes, as long as this lasts."""
    text = TEXT
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    FILE.write_text(text, encoding="utf-8")
    try:
        yield FILE
    finally:
        FILE.unlink(missing_ok=True)  # one within another has done it


def records_of(grid, values=None, **changes):
    """Records of a planned table's runs, by key; a row or seed without values has none."""
    found = {}
    for (row, column), cell in grid.cells.items():
        if column != "acc":
            continue
        for run, numbers in zip(grid.cell_runs(cell), (values or VALUES)[row], strict=False):
            if numbers is not None:
                results = dict(zip(("test/accuracy", "test/loss"), numbers, strict=True))
                found[run.key] = record(run, results, **changes)
    return found
