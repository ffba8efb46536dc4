"""States of a table's runs, how they ended, and how long they took, by their records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from retable.monitor.state import BLOCKING, Facts, State, judge
from retable.runs.columns import STATUSES
from retable.runs.record_set import Found
from retable.runs.records import Status
from retable.tables import collect
from retable.tables.grid import Grid
from retable.util.errors import UserError

Ending = tuple[Status, bool]
"""How a run ended, and whether by the present code."""

_ENDINGS: list[Ending] = [(status, fresh) for status in STATUSES for fresh in (False, True)]
_STATES = [*(judge(Facts(*ending))[0] for ending in _ENDINGS), State.TODO]


def endings(grid: Grid, found: Found) -> dict[str, Ending]:
    """How every run of a table ended that has a record, by key."""
    return {key: _ENDINGS[position] for key, position in _positions(grid, found) if position >= 0}


def states(grid: Grid, found: Found) -> dict[str, State]:
    """The state of every run of a table as far as records tell, by key."""
    found_states = {key: _STATES[position] for key, position in _positions(grid, found)}
    return {**found_states, **blocked(grid, found_states)}


def blocked(grid: Grid, states: Mapping[str, State]) -> dict[str, State]:
    """States that change because of those up the chain, by key.

    A run that waits for one in trouble is blocked; one that was, and could start now, is to do.
    """
    changed: dict[str, State] = {}
    for setting, seeds in grid.settings():  # what a run starts from comes before it
        parent = setting.parent
        if parent is None:
            continue
        for key, above in zip(setting.keys(seeds), parent.keys(seeds), strict=True):
            state = states.get(key, State.TODO)
            stuck = changed.get(above, states.get(above, State.TODO)) in BLOCKING
            if state is State.TODO and stuck:
                changed[key] = State.BLOCKED
            elif state is State.BLOCKED and not stuck:
                changed[key] = State.TODO
    return changed


def _positions(grid: Grid, found: Found) -> Iterator[tuple[str, int]]:
    """Every run's key and its place among the endings, -1 for a run that has no record."""
    columns = found.columns
    for setting, seeds in grid.settings():
        keys = setting.keys(seeds)
        numbers = found.numbers(keys)
        known = numbers[numbers >= 0]
        fresh = ~found.stale(setting, seeds, numbers)[numbers >= 0]
        positions = np.full(len(keys), -1)
        positions[numbers >= 0] = 2 * columns.statuses[known] + fresh
        yield from zip(keys, positions.tolist(), strict=True)


def seconds(grid: Grid, found: Found) -> dict[str, list[float]]:
    """Seconds that a table's finished runs took, by setting."""
    took: dict[str, list[float]] = {}
    for setting, seeds in grid.settings():
        numbers = found.numbers(setting.keys(seeds))
        done = numbers[found.done(numbers)]
        took.setdefault(setting.setting_key, []).extend(found.columns.wall_s[done].tolist())
    return took


def published_seconds(grid: Grid, warn: Callable[[str], None]) -> dict[str, list[float]]:
    """The same of the runs that are published with a table, on whatever machine those were.

    Args:
        grid: the planned table.
        warn: told of a file that cannot be read.
    """
    try:
        return seconds(grid, Found.of(collect.from_results(grid)))
    except UserError as error:
        warn(str(error))
        return {}
