"""Cells that a budget of time fills: the cheapest first, by past runs or by an estimate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import fmean

from retable.launch.checks import workers_of
from retable.launch.dispatch import warn
from retable.launch.rehearsal import records as rehearsed
from retable.launch.rehearsal.devices import GPUS
from retable.launch.slurm.job_arrays import Needs
from retable.monitor import recorded
from retable.monitor.state import State
from retable.runs import provenance
from retable.runs.frozen import FrozenRun
from retable.tables.collect import from_runs
from retable.tables.grid import Grid
from retable.tables.select import is_undecided
from retable.util.errors import UserError, brief
from retable.util.text import counted, duration, on_table

LISTED = 20
"""Cells that are named one by one of those that are left, with what they would take."""

_NAMED = 3
"""So many are named of those that are left for the same reason."""

_OPEN = frozenset({State.TODO, State.FAILED, State.BLOCKED})
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}

Place = tuple[int, str, str]
"""Number of a table, row and column."""


@dataclass(frozen=True)
class Budget:
    """Choice of cells.

    Attributes:
        grids: the tables with the chosen cells alone, those that are whole already among them.
        chosen: cells that become whole.
        spent_s: seconds that these are expected to take.
        left: cells that are left, with the seconds that each would take, or why that is not known.
        open_claims: by table, claims that no number of these cells can decide.
    """

    grids: list[Grid]
    chosen: int
    spent_s: float
    left: list[tuple[str, float | str]]
    open_claims: dict[str, list[str]]

    def as_text(self, given: str) -> str:
        """What is done and what is left, a line each; what shares a reason in one."""
        lines = [
            f"within {given}: {counted(self.chosen, 'cell')}, about {duration(self.spent_s)};"
            f" {counted(len(self.left), 'cell')} left"
        ]
        dear = [(name, seconds) for name, seconds in self.left if not isinstance(seconds, str)]
        lines += [f"left: {name}: {duration(seconds)}" for name, seconds in dear[:LISTED]]
        if len(dear) > LISTED:
            lines.append(f"left: {len(dear) - LISTED} more")
        by_reason: dict[str, list[str]] = {}
        for name, why in self.left:
            if isinstance(why, str):
                by_reason.setdefault(why, []).append(name)
        for why, names in by_reason.items():
            few = "; ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])
            cells = few if len(names) == 1 else f"{len(names)} cells ({few})"
            lines.append(f"left: {cells}: {why}")
        for table, ids in self.open_claims.items():
            lines.append(f"left: {table}: {', '.join(ids)}, whose cells are not all chosen")
        return "\n".join(lines)


def seconds_of(text: str) -> float:
    """Seconds of a duration such as ``8h``, ``90min`` or ``2d``.

    Raises:
        UserError: where it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)", text.strip())
    if match is None or float(match[1]) == 0:
        raise UserError(f"--within {brief(text)}: expected a duration, such as 8h, 90min or 2d")
    return float(match[1]) * _UNITS[match[2]]


def choose(groups: Sequence[frozenset[str]], cost: Mapping[str, float], budget: float) -> list[int]:
    """Positions of groups of runs, cheapest first, whose runs cost a budget at most.

    The next one is always that to which least is to be added, since groups share runs; so none of
    those that are left would fit into what remains.

    Args:
        groups: keys of the runs that each needs.
        cost: of each run.
        budget: in the same unit.
    """
    have, spent, chosen = set[str](), 0.0, list[int]()
    while True:
        added = {
            number: sum(cost[key] for key in sorted(group - have))
            for number, group in enumerate(groups)
            if number not in chosen
        }
        fits = [number for number, more in added.items() if spent + more <= budget]
        if not fits:
            return chosen
        best = min(fits, key=lambda number: (added[number], number))
        chosen.append(best)
        have |= groups[best]
        spent += added[best]


def within(grids: Sequence[Grid], budget_s: float) -> Budget:
    """Choose the cells of some tables that a budget fills.

    Here it is time on the clock, with as many runs at once as the launcher has; on a cluster it is
    the time of GPUs, and of cores where a run asks for no GPU.

    Args:
        grids: the planned tables.
        budget_s: seconds.
    """
    cost: dict[str, float] = {}
    needed: dict[Place, frozenset[str]] = {}
    unknown: dict[Place, str] = {}
    for number, grid in enumerate(grids):
        found = from_runs(grid, warn)
        states = recorded.states(grid, found)
        took = recorded.seconds(grid, found)
        published = cache(partial(recorded.published_seconds, grid, warn))
        for (row, column), cell in grid.cells.items():
            place = (number, row, column)
            if is_undecided(cell):
                unknown[place] = "chosen after the tuning runs"
                continue
            missing = list(_missing(cell.setting, grid.cell_seeds(cell), states))
            of_setting = {one.setting_key: _seconds(one, took, published) for one, _ in missing}
            if None in of_setting.values():
                dark = [one for one, _ in missing if of_setting[one.setting_key] is None]
                unknown[place] = f"nothing is known of the cost; try {_rehearse(grid, dark)}"
                continue
            for setting, key in missing:
                cost[key] = (of_setting[setting.setting_key] or 0.0) * _share(setting)
            needed[place] = frozenset(key for _, key in missing)
    for place in list(needed):
        number, _, column = place
        reference = grids[number].spec.reference(column)  # its number is relative to that row's
        other = (number, reference, column) if reference is not None else place
        if other in unknown:
            unknown[place] = unknown[other]
            del needed[place]
        else:
            needed[place] |= needed[other]
    groups = list(dict.fromkeys(needed.values()))
    chosen = [groups[number] for number in choose(groups, cost, budget_s)]
    have = frozenset[str]().union(*chosen)
    taken = {place for place, group in needed.items() if group <= have}
    name = _named(grids)
    left: list[tuple[str, float | str]] = [
        (name(place), sum(cost[key] for key in sorted(group - have)))
        for place, group in needed.items()
        if place not in taken
    ]
    left.sort(key=lambda entry: float(entry[1]))
    return Budget(
        [_only(number, grid, taken) for number, grid in enumerate(grids)],
        sum(bool(needed[place]) for place in taken),
        sum(cost[key] for key in sorted(have)),
        [*left, *((name(place), why) for place, why in unknown.items())],
        {g.name: ids for n, g in enumerate(grids) if (ids := _open_claims(n, g, taken))},
    )


def _missing(
    setting: FrozenRun, seeds: Sequence[int], states: Mapping[str, State]
) -> Iterator[tuple[FrozenRun, str]]:
    """Settings with the keys of their runs that a cell needs and that are not there."""
    keys = setting.keys(seeds)
    waiting = [(s, k) for s, k in zip(seeds, keys, strict=True) if states[k] in _OPEN]
    for above in setting.chain:
        needed = above.keys([seed for seed, _ in waiting])
        yield from ((above, key) for key in needed if states.get(key, State.TODO) in _OPEN)
    yield from ((setting, key) for _, key in waiting)


def _seconds(
    setting: FrozenRun,
    took: Mapping[str, Sequence[float]],
    published: Callable[[], Mapping[str, Sequence[float]]],
) -> float | None:
    """Mean time of a setting's past runs, or a rehearsal's estimate for such a device.

    Where there is neither, the mean time of the published runs.
    """
    if past := took.get(setting.setting_key):
        return fmean(past)
    estimate = rehearsed.kept(setting)
    if estimate is not None and estimate.seconds is None:
        return None  # it cannot be built or stepped, by its rehearsal
    if estimate is not None and estimate.is_of_processor is not _on_gpu(setting):
        return estimate.seconds
    past = published().get(setting.setting_key)
    return fmean(past) if past else None


def _rehearse(grid: Grid, settings: Sequence[FrozenRun]) -> str:
    """The command that finds out what settings cost on the device that they are run on."""
    command = on_table("rehearse", grid.name, grid.protocol)
    if any(_on_gpu(setting) for setting in settings):
        first, *others = GPUS
        return f"{command} --device {first} (or {' or '.join(others)})"
    return command


def _on_gpu(run: FrozenRun) -> bool:
    config = run.config
    if config.launcher.name == "slurm":
        return config.resources.gpus > 0
    return config.device.accelerator != "cpu" and _gpu_is_here()


@cache
def _gpu_is_here() -> bool:
    return provenance.gpu()[0] is not None  # asks a process, and many cells ask


def _share(run: FrozenRun) -> float:
    """How much of the budget a second of a run takes."""
    config = run.config
    if config.launcher.name == "slurm":
        needs = Needs.of(run)
        return needs.gpus or needs.cpus * needs.devices
    return 1 / workers_of(run)


def _named(grids: Sequence[Grid]) -> Callable[[Place], str]:
    def name(place: Place) -> str:
        number, row, column = place
        cell = f"{row}, {column}"
        return cell if len(grids) == 1 else f"{grids[number].name}: {cell}"

    return name


def _only(number: int, grid: Grid, taken: set[Place]) -> Grid:
    cells = {(r, c): cell for (r, c), cell in grid.cells.items() if (number, r, c) in taken}
    return replace(grid, cells=cells)


def _open_claims(number: int, grid: Grid, taken: set[Place]) -> list[str]:
    """Claims with a cell that is to be run and is not taken."""
    found: list[str] = []
    for claim in grid.spec.claims:
        rows = set(claim.rows())
        columns = set(claim.columns() or grid.spec.columns)
        cells = [(r, c) for r, c in grid.cells if r in rows and c in columns]
        if any((number, r, c) not in taken for r, c in cells):
            found.append(claim.id)
    return found
