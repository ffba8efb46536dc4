"""A table whose runs start from another one, planned, and records that these have left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retable.runs.record_parts import StartedFrom
from retable.runs.records import Status
from retable.tables.grid import plan
from support.records import leave, plain_record

BITS = "a" * 64
TABLES = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits"
TEXT = """\
paper: digits
title: Accuracy of a new last layer
source: {paper_ref: "Table 2", own: true}
metrics:
  accuracy: {key: test/accuracy, direction: max, margin: 1.0}
seeds: {smoke: 2}
columns:
  accuracy: {metric: accuracy, experiment: {smoke: digits/tuned}}
rows:
  slow: [model.optimizer.lr=0.01]
  fast: [model.optimizer.lr=0.1]
"""


@pytest.fixture
def chained():
    file = TABLES / "chained.yaml"
    file.write_text(TEXT, encoding="utf-8")
    yield plan("digits/chained", "smoke")
    file.unlink()


def left(run, status=Status.DONE, **changes):
    """Leave a record of a run as its code would."""
    fields = {"key": run.key, "seed": run.config.seed, "fingerprint": run.fingerprint}
    above = run.parent
    if above is not None and "started_from" not in changes:
        changes["started_from"] = StartedFrom(key=above.key, weights_sha256=BITS)
    record = plain_record(**{**fields, "status": status, "weights_sha256": BITS, **changes})
    return leave(Path(run.config.paths.runs), record)
