"""A table of the digits paper with many runs, and records for them as runs leave them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec import structs

from retable.runs import frozen, records
from retable.runs.frozen import FrozenRun
from retable.runs.records import Record, ResultRow
from retable.tables.grid import Grid, plan
from support.records import leave, plain_record

TABLE = """\
paper: digits
title: Many
source: {{paper_ref: "Table 1"}}
metrics:
  accuracy: {{key: test/accuracy, unit: "%"}}
  loss: {{key: test/loss}}
seeds: {seeds}
columns:
  accuracy: {{metric: accuracy, experiment: digits/base}}
  loss: {{metric: loss, experiment: digits/base, result_row: {row}}}
rows: {{slow: [model.optimizer.lr=0.01], fast: []}}
"""


def table(seeds: int = 10, row: str = "last") -> Grid:
    """A table of two settings, whose two columns are two numbers of the same runs."""
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "many.yaml"
    file.write_text(TABLE.format(seeds=seeds, row=row), encoding="utf-8")
    try:
        return plan("digits/many")
    finally:
        file.unlink()


def record_for(run: FrozenRun, value: float = 0.5, **changes: Any) -> Record:
    """A record of a run, done where nothing else is said."""
    fields = {
        "key": run.key,
        "seed": run.config.seed,
        "config": frozen.recorded(run.config),
        "results": [
            ResultRow(metric="test/accuracy", value=value),
            ResultRow(metric="test/loss", result_row="last", value=1 - value),
        ],
        "fingerprint": run.fingerprint,
    }
    return plain_record(**{**fields, **changes})


def finish(grid: Grid, runs: Path) -> list[FrozenRun]:
    """Records for all runs of a table; returns the runs."""
    made = list(grid.runs())
    for number, run in enumerate(made):
        leave(runs, record_for(run, number / 64))
    return made


def overwrite(file: Path, text: str) -> None:
    """Write into a file as an editor may that keeps its inode, size and time of change."""
    before = file.stat()
    assert len(text) == before.st_size
    with file.open("r+", encoding="utf-8") as out:
        out.write(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert after.st_mtime_ns == before.st_mtime_ns


def changed(record: Record, value: float) -> str:
    """Text of the same length with another accuracy, both being of four letters."""
    results = [structs.replace(record.results[0], value=value), *record.results[1:]]
    return records.dump(structs.replace(record, results=results))
