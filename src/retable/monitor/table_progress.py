"""Progress of a table by its records: what is done per cell, and the time left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retable.launch.checks import workers_of
from retable.launch.dispatch import warn
from retable.launch.rehearsal import records as rehearsed
from retable.monitor import recorded
from retable.monitor.state import RECORDED, State, states_json, states_text
from retable.runs import starts
from retable.runs.frozen import FrozenRun
from retable.tables.collect import from_runs
from retable.tables.grid import Grid
from retable.tables.select import is_undecided
from retable.util import eta
from retable.util.text import counted, duration, few, on_table

_UNFINISHED = frozenset({State.FAILED, State.BLOCKED, State.TODO})


@dataclass(frozen=True)
class TableProgress:
    """Progress of a table.

    Attributes:
        grid: the planned table.
        cells: by (row, column), how many runs are in which of the states that records tell.
        above: the same of runs that are only started from, by experiment.
        runs: the same over all runs, each once.
        expected_s: wall-clock seconds for what is to do; None where no record tells.
        workers: runs at once that ``expected_s`` assumes.
        without_weights: done runs that others are still to start from, of which only the record is
            here.
        estimated: how many of the runs that are to do count by a rehearsal's estimate, since none
            of their setting is recorded, by the device that it is for.
        by_published: how many count by the times that are published with the table, since nothing
            else is known of their setting.
        by_others: how many count as the mean of the other settings' runs, since nothing at all is
            known of their setting.
        broken: what settings are called that failed in their rehearsal, by the reason.
        after_choice: runs that follow when the tuning runs have chosen their settings, at most;
            ``expected_s`` has them, ``runs`` has not.
    """

    grid: Grid
    cells: dict[tuple[str, str], Counter[State]]
    above: dict[str, Counter[State]]
    runs: Counter[State]
    expected_s: float | None
    workers: int
    without_weights: Sequence[FrozenRun] = ()
    estimated: Counter[str] = field(default_factory=Counter[str])
    by_published: int = 0
    by_others: int = 0
    broken: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])
    after_choice: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "table": self.grid.name,
            "protocol": self.grid.protocol,
            "runs": states_json(self.runs, RECORDED),
            "runs_after_choice": self.after_choice,
            "expected_s": self.expected_s,
            "workers": self.workers,
            "estimated_runs": dict(self.estimated),
            "published_runs": self.by_published,
            "untimed_runs": self.by_others,
            "failed_rehearsals": [
                {"reason": reason, "settings": names} for reason, names in self.broken.items()
            ],
            "started_from": [
                {"experiment": name, **states_json(count, RECORDED)}
                for name, count in self.above.items()
            ],
            "without_weights": [run.key for run in self.without_weights],
            "cells": [
                {"row": row, "column": column, **states_json(count, RECORDED)}
                for (row, column), count in self.cells.items()
            ],
        }

    def as_text(self) -> str:
        """A line for the table, then for cells: rows of a state, columns of the same runs."""
        known = "unknown (no record yet)"
        if self.expected_s is not None:
            known = f"about {duration(self.expected_s)} with {self.workers} at once"
        if self.estimated:
            what = " and ".join(f"{counted(n, 'run')} on {on}" for on, n in self.estimated.items())
            known += f", of which an estimate: {what} (retable rehearse)"
        if self.by_published:
            runs = counted(self.by_published, "run")
            known += f", of which by published records, of whatever machine: {runs}"
        if self.by_others and self.expected_s is not None:
            runs = counted(self.by_others, "run")
            known += f", of which as the others' mean, for want of a record: {runs}"
        unfinished = self.after_choice or any(self.runs[state] for state in _UNFINISHED)
        more = f"; {self.after_choice} more once settings are chosen" if self.after_choice else ""
        lines = [
            f"{self.grid.name}, protocol {self.grid.protocol}: {self.runs.total()} runs,"
            f" {states_text(self.runs)}{more}",
            f"expected time: {known if unfinished else 'nothing to start'}",
        ]
        if self.runs[State.STALE]:
            refresh = on_table("refresh", self.grid.name, self.grid.protocol)
            lines.append(f"stale: {refresh} tells whether the edits matter")
            if any(setting.parent is not None for setting, _ in self.grid.settings()):
                again = f"{on_table('retry', self.grid.name, self.grid.protocol)} --stale"
                lines.append(f"    where what they start from has changed, {again} does them again")
        lines += [
            f"    {name}, which others start from: {states_text(count)}"
            for name, count in self.above.items()
        ]
        if self.without_weights:
            run = self.without_weights[0]
            lines.append(
                f"    of these {len(self.without_weights)} done without their weights being here:"
                f" `retable verify {run.config.paper}/{run.key[:12]} --replace` makes them again"
            )
        lines += [
            f"    failed in its rehearsal: {'; '.join(names)}: {reason}"
            for reason, names in self.broken.items()
        ]
        rows: dict[tuple[str, str], list[str]] = {}
        for (row, column), count in self.cells.items():
            state = states_text(count)
            if is_undecided(self.grid.cells[row, column]):
                state = "its setting is chosen after the tuning runs"
            rows.setdefault((column, state), []).append(row)
        columns: dict[tuple[str, tuple[tuple[str, ...], ...]], list[str]] = {}
        for (column, state), own in rows.items():
            # Of each row its name, and the keys of the runs that it shows.
            shown = ((row, *self.grid.cell_keys(self.grid.cells[row, column])) for row in own)
            columns.setdefault((state, tuple(shown)), []).append(column)
        lines += [
            f"    {few(same)} [{', '.join(row for row, *_ in shown)}]: {state}"
            for (state, shown), same in columns.items()
        ]
        return "\n".join(lines)


def progress_of(grid: Grid) -> TableProgress:
    """Read the records of a table's runs, and tell how far it is."""
    found = from_runs(grid, warn)
    states = recorded.states(grid, found)
    took = recorded.seconds(grid, found)
    waiting: Counter[str] = Counter()
    estimated: Counter[str] = Counter()
    unknown: dict[str, int] = {}
    by_published = by_others = 0
    broken: dict[str, list[str]] = {}
    called: dict[str, list[str]] = {}
    for row, column in grid.cells:
        key = grid.cells[row, column].setting.setting_key
        called.setdefault(key, []).append(f"{row}, {column}")
    for setting, seeds in grid.settings():
        unfinished = sum(states[key] in _UNFINISHED for key in setting.keys(seeds))
        waiting[setting.setting_key] += unfinished
        estimate = rehearsed.kept(setting) if unfinished else None
        if estimate is not None and estimate.seconds is None:
            names = broken.setdefault(estimate.rehearsed.reason, [])
            names += called.get(setting.setting_key) or [setting.config.experiment]
        if not unfinished or took[setting.setting_key]:
            continue
        if estimate is not None and estimate.seconds is not None:
            took[setting.setting_key] = [estimate.seconds]
            estimated[estimate.on()] += unfinished
        else:
            unknown[setting.setting_key] = unfinished
    if unknown:
        published = recorded.published_seconds(grid, warn)
        known = {key: past for key in unknown if (past := published.get(key))}
        took.update(known)
        by_published = sum(unknown[key] for key in known)
        by_others = sum(unknown.values()) - by_published
    cells = {
        place: Counter(states[key] for key in grid.cell_keys(cell))
        for place, cell in grid.cells.items()
    }
    above = {
        name: Counter(states[key] for key in keys)
        for name, keys in grid.only_started_from().items()
    }
    chosen = _after_choice(grid)
    waiting.update(chosen)
    some = next(iter(grid.cells.values()), None)
    workers = workers_of(some.setting) if some else 1
    expected = eta.left(took, waiting, workers)
    runs = Counter(states.values())
    gone = _without_weights(grid, states)
    return TableProgress(
        grid, cells, above, runs, expected, workers, gone, estimated, by_published, by_others,
        broken, chosen.total(),
    )  # fmt: skip


def _after_choice(grid: Grid) -> Counter[str]:
    """Runs of settings that are not chosen yet, by what they are chosen from.

    Cells that choose from the same settings choose the same, and show the same runs.
    """
    found: Counter[str] = Counter()
    for cell in grid.cells.values():
        if is_undecided(cell) and cell.selection is not None:
            among = " ".join(one.setting.setting_key for one in cell.selection.candidates)
            found[among] = max(found[among], len(grid.cell_seeds(cell)))
    return found


def _without_weights(grid: Grid, states: Mapping[str, State]) -> list[FrozenRun]:
    """Done runs that others are still to start from, and of which no weights are here."""
    found: dict[str, FrozenRun] = {}
    for setting, seeds in grid.settings():
        if setting.parent is None:
            continue
        for seed, key in zip(seeds, setting.keys(seeds), strict=True):
            above = setting.with_seed(seed).parent if states[key] is State.TODO else None
            if above is not None and states.get(above.key) is State.DONE:
                found[above.key] = above
    return [run for run in found.values() if not starts.is_ready(run)]
