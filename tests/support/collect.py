"""Collecting with an index beside collecting without, for tests that compare the two."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from retable.runs import index, records, scan
from retable.runs.record_set import Found
from retable.runs.records import Record
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.collect import from_runs
from retable.tables.grid import Grid
from support.index import table


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    """As if the table's twenty runs were a hundred thousand that finished long ago."""
    monkeypatch.setattr(collect, "MANY", 10)
    monkeypatch.setattr(collect, "_NEWS", 1)
    monkeypatch.setattr(index, "_SETTLED_NS", 0)


@pytest.fixture
def grid() -> Grid:
    return table()


@pytest.fixture
def file(runs) -> Path:
    return index.file_of(runs, "digits/many", "paper")


class Readings:
    """Which runs' records are read, not taken from the index."""

    def __init__(self, monkeypatch) -> None:
        self.keys: list[str] = []
        read = scan.read

        def noted(base, keys, places):
            self.keys += keys
            return read(base, keys, places)

        monkeypatch.setattr(scan, "read", noted)

    def taken(self) -> list[str]:
        """Since it was asked the last time."""
        keys, self.keys = self.keys, []
        return keys


@pytest.fixture
def readings(monkeypatch) -> Readings:
    return Readings(monkeypatch)


def tick() -> None:
    """Let the file system's clock go on, so that what was written before is settled."""
    time.sleep(0.02)


def plainly(grid: Grid) -> tuple[list[object], dict[str, Record], list[str]]:
    """Cells, records and warnings without an index."""
    said: list[str] = []
    read = {run.key: records.read_run(run.folder, said.append) for run in grid.runs()}
    found = {key: record for key, record in read.items() if record}
    return list(build(grid, found).cells.values()), found, said


def same_as_the_files(grid: Grid) -> Found:
    """Collect, and compare all there is to compare with what the files say."""
    tick()
    said: list[str] = []
    found = from_runs(grid, said.append)
    cells, expected, warnings = plainly(grid)
    assert list(build(grid, found).cells.values()) == cells
    assert sorted(said) == sorted(warnings)
    assert set(found) == set(expected)
    assert all(found[key] == record for key, record in expected.items())
    return found
