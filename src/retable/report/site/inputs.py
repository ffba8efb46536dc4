"""Inputs of the site: tables with their records and histories, published or from runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from retable.config.compose_cache import planning
from retable.report.publish import published
from retable.report.site.labels import slug
from retable.runs import published_records
from retable.runs.lookup import history_of
from retable.runs.records import Record, run_folder
from retable.tables import collect, spec
from retable.tables.aggregate import Table, build
from retable.tables.grid import Grid, plan
from retable.util import paths

History = list[dict[str, float]]
Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and of how much."""


@dataclass(frozen=True)
class ShownTable:
    """A table under one protocol.

    Attributes:
        grid: as planned, with the choices that were made.
        table: judged.
        records: of all its runs by key, those that failed and those that tuned included.
        history: gives a run's history; empty where it has none.
    """

    grid: Grid
    table: Table
    records: Mapping[str, Record]
    history: Callable[[str], History]

    @property
    def stem(self) -> str:
        """Its page below ``tables/``, without the ending."""
        paper, _, name = self.table.name.partition("/")
        ending = "" if self.table.protocol == "paper" else f"-{slug(self.table.protocol)}"
        return f"{slug(paper)}/{slug(name)}{ending}"

    @property
    def titled(self) -> str:
        """Its name, with the protocol where it is another than the paper's own."""
        protocol = "" if self.table.protocol == "paper" else f" ({self.table.protocol})"
        return f"{self.table.name}{protocol}"

    @property
    def picture(self) -> str:
        """Its figure as a picture, where it has one."""
        return f"curves/{self.stem}/figure.svg"


@dataclass
class RunUse:
    """A run with everything that shows it.

    Attributes:
        record: what it left behind.
        history: gives its history.
        places: tables and cells that its numbers stand in; no cell where it tuned or failed.
    """

    record: Record
    history: Callable[[str], History]
    places: dict[int, list[tuple[str, str]]] = field(
        default_factory=dict[int, list[tuple[str, str]]]
    )


def from_results(tell: Tell, warn: Callable[[str], None]) -> list[ShownTable]:
    """Every published table."""
    names = published()
    found: list[ShownTable] = []
    for grid in _planned(names, tell):
        grid = collect.decided_by_results(grid)
        records = collect.from_results(grid, warn)
        file = published_records.parquet_file(grid.name, grid.protocol)
        texts = published_records.histories(file)
        table = build(grid, records, collect.artifacts_of_results(grid))
        found.append(ShownTable(grid, table, dict(records), _parsed(texts)))
    return judged(found)


def from_runs(tell: Tell, warn: Callable[[str], None]) -> list[ShownTable]:
    """Every table and protocol of which some run has a record."""
    specs = [(name, spec.load(name)) for name in paths.config_names("table")]
    runs = paths.runs_folder()
    names = [(n, p) for n, s in specs if (runs / s.paper).is_dir() for p in s.protocols()]
    found: list[ShownTable] = []
    for grid in _planned(names, tell):
        grid = collect.decided_by_runs(grid)
        records = collect.from_runs(grid, warn)
        if records:
            table = build(grid, records, collect.artifacts_of_runs(grid))
            # Read once and kept: every run has a page.
            found.append(ShownTable(grid, table, dict(records), _read(records)))
    return judged(found)


def _planned(names: list[tuple[str, str]], tell: Tell) -> Iterator[Grid]:
    """Tables under a protocol each; read one by one, composed in one go."""
    with planning():
        for number, (name, protocol) in enumerate(names):
            tell("reading tables", number, len(names))
            yield plan(name, protocol)


def judged(sources: list[ShownTable]) -> list[ShownTable]:
    """Verdicts of all tables together, for p of claims is adjusted over a paper's; in order."""
    from retable.tables.verdicts.judge import judge_all

    tables = judge_all(source.table for source in sources)
    found = [replace(source, table=t) for source, t in zip(sources, tables, strict=True)]
    # By paper, its own protocol first.
    return sorted(found, key=lambda s: (s.table.spec.paper, s.table.protocol != "paper", s.stem))


def _parsed(texts: Mapping[str, str]) -> Callable[[str], History]:
    # Kept as text: ten thousand histories as Python's floats would fill the memory.
    return lambda key: json.loads(texts[key]) if key in texts else []


def _read(records: Mapping[str, Record]) -> Callable[[str], History]:
    runs = paths.runs_folder()

    def read(key: str) -> History:
        record = records[key]
        rows = history_of(run_folder(runs, record.paper, key), record)
        return published_records.thinned(rows)

    return read


def runs_of(sources: list[ShownTable]) -> dict[str, RunUse]:
    """Every run once, by key, with the places that show it."""
    found: dict[str, RunUse] = {}
    for number, source in enumerate(sources):
        for key, record in source.records.items():
            found.setdefault(key, RunUse(record, source.history)).places.setdefault(number, [])
        for place, cell in source.table.cells.items():
            for key in cell.run_keys:
                found[key].places[number].append(place)
    return dict(sorted(found.items()))
