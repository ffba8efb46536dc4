"""Progress of a table: done, stale, failed and to do per cell, and time left by past records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from retable.launch.checks import workers_of
from retable.launch.dispatch import warn
from retable.runs.columns import Ints
from retable.runs.frozen import FrozenRun
from retable.runs.record_set import Found
from retable.runs.records import Status
from retable.tables.collect import from_runs
from retable.tables.grid import Grid
from retable.tables.select import is_undecided
from retable.util.text import duration

STATES = ("done", "stale", "diverged", "failed", "to do")


@dataclass(frozen=True)
class Survey:
    """State of a table.

    Attributes:
        grid: the planned table.
        cells: by (row, column), how many runs are in which of :data:`STATES`.
        runs: the same over all runs, each once.
        expected_s: wall-clock seconds for what is to do; None where no record tells.
        workers: runs at once that ``expected_s`` assumes.
    """

    grid: Grid
    cells: dict[tuple[str, str], Counter[str]]
    runs: Counter[str]
    expected_s: float | None
    workers: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "table": self.grid.name,
            "protocol": self.grid.protocol,
            "runs": {state: self.runs[state] for state in STATES},
            "expected_s": self.expected_s,
            "workers": self.workers,
            "cells": [
                {"row": row, "column": column, **{state: count[state] for state in STATES}}
                for (row, column), count in self.cells.items()
            ],
        }

    def as_text(self) -> str:
        """A line for the table and one per cell; rows that share their runs are one line."""
        known = "unknown (no record yet)"
        if self.expected_s is not None:
            known = f"about {duration(self.expected_s)} with {self.workers} at once"
        total = sum(self.runs.values())
        unfinished = self.runs["to do"] + self.runs["failed"]
        lines = [
            f"{self.grid.name}, protocol {self.grid.protocol}: {total} runs, {_states(self.runs)}",
            f"expected time: {known if unfinished else 'nothing to do'}",
        ]
        if self.runs["stale"]:
            lines.append(f"stale: retable refresh {self.grid.name} tells whether the edits matter")
        groups: dict[tuple[str, str], list[str]] = {}
        for (row, column), count in self.cells.items():
            state = _states(count)
            if is_undecided(self.grid.cells[row, column]):
                state = "its setting is chosen after the tuning runs"
            groups.setdefault((column, state), []).append(row)
        lines += [
            f"    {column} [{', '.join(rows)}]: {state}" for (column, state), rows in groups.items()
        ]
        return "\n".join(lines)


def _states(count: Counter[str]) -> str:
    return ", ".join(f"{count[state]} {state}" for state in STATES if count[state]) or "no runs"


def survey(grid: Grid) -> Survey:
    """Look at the records of a table's runs."""
    found = from_runs(grid, warn)
    states: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    todo: Counter[str] = Counter()
    for setting, seeds in grid.settings():
        keys = setting.keys(seeds)
        numbers = found.numbers(keys)
        own = _states_of(setting, found, numbers)
        states.update(zip(keys, own, strict=True))
        name = setting.keys([0])[0]
        done = numbers[found.done(numbers)]
        seconds.setdefault(name, []).extend(found.columns.wall_s[done].tolist())
        todo[name] += sum(state in {"failed", "to do"} for state in own)
    cells = {
        place: Counter(states[key] for key in grid.cell_keys(cell))
        for place, cell in grid.cells.items()
    }
    some = next(iter(grid.cells.values()), None)
    workers = workers_of(some.setting) if some else 1
    known = [s for values in seconds.values() for s in values]
    expected = None
    if known:
        expected = sum(n * fmean(seconds[k] or known) for k, n in todo.items()) / workers
    return Survey(grid, cells, Counter(states.values()), expected, workers)


def _states_of(setting: FrozenRun, found: Found, numbers: Ints) -> list[str]:
    """The state of each run of a setting."""
    states = np.full(len(numbers), "to do", dtype=object)
    states[found.status_is(numbers, Status.FAILED)] = "failed"
    states[found.status_is(numbers, Status.DIVERGED)] = "diverged"
    done = found.done(numbers)
    about = found.columns.about[numbers[done]]
    fresh = [a.fingerprint == setting.fingerprint for a in found.columns.abouts]
    states[done] = ["done" if fresh[number] else "stale" for number in about]
    return states.tolist()
