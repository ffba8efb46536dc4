"""States of a table's runs, how they have ended, and how long they took, by their records alone."""

from __future__ import annotations

from retable.monitor.state import Facts, State, judge
from retable.runs.index import STATUSES
from retable.runs.record_set import Found
from retable.runs.records import Status
from retable.tables.grid import Grid

Ending = tuple[Status, bool]
"""How a run ended, and whether by the present code."""


def endings(grid: Grid, found: Found) -> dict[str, Ending]:
    """How every run of a table ended that has a record, by key."""
    columns = found.columns
    statuses, abouts = columns.statuses.tolist(), columns.about.tolist()
    ended: dict[str, Ending] = {}
    for setting, seeds in grid.settings():
        fresh = [about.fingerprint == setting.fingerprint for about in columns.abouts]
        keys = setting.keys(seeds)
        for key, number in zip(keys, found.numbers(keys).tolist(), strict=True):
            if number >= 0:
                ended[key] = STATUSES[statuses[number]], fresh[abouts[number]]
    return ended


def states(grid: Grid, found: Found) -> dict[str, State]:
    """The state of every run of a table as far as records tell, by key."""
    ended = endings(grid, found)
    state_of = {ending: judge(Facts(*ending))[0] for ending in set(ended.values())}
    return {key: state_of[ended[key]] if key in ended else State.TODO for key in grid.run_folders()}


def seconds(grid: Grid, found: Found) -> dict[str, list[float]]:
    """Seconds that a table's finished runs took, by setting."""
    took: dict[str, list[float]] = {}
    for setting, seeds in grid.settings():
        numbers = found.numbers(setting.keys(seeds))
        done = numbers[found.done(numbers)]
        took.setdefault(setting.setting_key, []).extend(found.columns.wall_s[done].tolist())
    return took
