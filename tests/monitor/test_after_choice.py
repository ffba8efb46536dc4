"""Runs that follow a choice are in the plan before it is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retable.monitor import table_progress
from retable.monitor.state import State
from retable.monitor.table_progress import progress_of
from retable.tables.collect import decided_by_runs
from retable.tables.grid import plan
from retable.tables.spec_parts import FIRST_TUNING_SEED
from support.follow import ended

TABLE = """\
paper: digits
title: Numbers
source: {paper_ref: "Table 1"}
metrics:
  accuracy: {key: test/accuracy, unit: "%", direction: max}
  loss: {key: test/loss, direction: min}
seeds: 3
columns:
  accuracy: {metric: accuracy, experiment: digits/base}
  loss: {metric: loss, experiment: digits/base}
rows: {slow: [model.optimizer.lr=0.01], fast: []}
select: {over: {model.hidden: [8, 16]}, by: val/accuracy, direction: max, rows: [fast], seeds: 1}
"""


@pytest.fixture
def grid(monkeypatch, runs):
    """Three runs of one row, and two that choose the setting of the other row's two cells."""
    monkeypatch.setattr(table_progress, "workers_of", lambda run: 2)
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "choice.yaml"
    file.write_text(TABLE, encoding="utf-8")
    yield plan("digits/choice")
    file.unlink()


def test_runs_after_a_choice_are_expected_before_it_is_made(grid):
    every = list(grid.runs())
    assert sum(run.config.seed >= FIRST_TUNING_SEED for run in every) == 2
    for run in every[:3]:
        ended(run, wall_s=100.0, validation={"val/accuracy": 0.5})
    known = progress_of(grid)
    assert (known.runs[State.TODO], known.after_choice) == (2, 3)
    assert known.expected_s == (2 + 3) * 100.0 / 2
    assert known.as_text().startswith(
        "digits/choice, protocol paper: 5 runs, 3 done, 2 to do; 3 more once settings are chosen\n"
    )
    for run in every[3:]:
        ended(run, wall_s=100.0, validation={"val/accuracy": 0.5})
    assert progress_of(grid).expected_s == 3 * 100.0 / 2
    chosen = progress_of(decided_by_runs(grid))
    assert (chosen.after_choice, chosen.runs[State.TODO]) == (0, 3)
