"""Choice of settings by a validation metric, on seeds that no reported number uses.

A table's ``select`` gives every cell several candidate settings. Each is run with the tuning
seeds; the one whose mean validation metric is best is then run with the table's own seeds. The
test split has no part in it: only ``val/...`` metrics can be named, and the tuning runs' test
results are never read.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from retable.runs.columns import Place
from retable.runs.frozen import FrozenRun
from retable.runs.record_set import Found
from retable.runs.records import Record, Status
from retable.tables.spec_parts import Select
from retable.util.errors import UserError, nearest

if TYPE_CHECKING:
    from retable.tables.grid import CellPlan, Grid

ReadRecords = Callable[[Mapping[str, str]], Mapping[str, Record]]
"""Gives the records of some runs, by key; told by key the folder that the run's own is in."""


@dataclass(frozen=True)
class Candidate:
    """One setting to choose from.

    Attributes:
        values: what is set, by dotted key.
        setting: frozen with the first tuning seed.
        score: mean of the validation metric over the tuning seeds; None until all are done, NaN
            where a run diverged.
    """

    values: dict[str, Any]
    setting: FrozenRun
    score: float | None = None

    def text(self) -> str:
        """Values that are set, such as ``model.lr=0.1``."""
        return ", ".join(f"{key}={_spelled(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class Selection:
    """The choice of one cell.

    Attributes:
        by: validation metric.
        direction: ``min`` or ``max``.
        seeds: tuning seeds.
        candidates: in the order of the table file; the first wins a tie.
        chosen: number of the chosen candidate; None until all tuning runs have ended.
    """

    by: str
    direction: str
    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    chosen: int | None = None

    def runs(self) -> list[FrozenRun]:
        """All tuning runs, seed by seed."""
        return [c.setting.with_seed(seed) for seed in self.seeds for c in self.candidates]

    def run_folders(self) -> dict[str, str]:
        """Of every tuning run: its key, and the folder that its own is in."""
        found: dict[str, str] = {}
        for candidate in self.candidates:
            folder = str(candidate.setting.folder.parent)
            found.update(dict.fromkeys(candidate.setting.keys(self.seeds), folder))
        return found

    @property
    def place(self) -> Place:
        """Where the number to choose by stands in a record: nowhere but in the validation."""
        return self.by, None, None

    def text(self) -> str:
        """The choice, or that there is none yet."""
        if self.chosen is None:
            scores = [c.score for c in self.candidates]
            if None not in scores:
                return f"nothing selected by {self.by}: every candidate diverged"
            return f"to be selected by {self.by}"
        best = self.candidates[self.chosen]
        return (
            f"{best.text()} selected of {len(self.candidates)} settings by {self.by} ="
            f" {best.score:.4g}, {of_seeds(self.seeds)}"
        )


def combinations(select: Select) -> list[dict[str, Any]]:
    """Every combination of the values to choose from, in the order of the file."""
    return [
        dict(zip(select.over, values, strict=True))
        for values in itertools.product(*select.over.values())
    ]


def overrides(values: Mapping[str, Any]) -> list[str]:
    """Hydra overrides that set a candidate's values."""
    return [f"{key}={_spelled(value)}" for key, value in values.items()]


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        # Quoted, so that 'null', '0.1' or 'a,b' stays the word it is in the file.
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)


def seeds_text(seeds: Sequence[int]) -> str:
    """Some seeds in words, such as ``5 to 29``."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def of_seeds(seeds: Sequence[int]) -> str:
    """Which seeds a number is of that settings are chosen by."""
    return f"mean over seeds {seeds_text(seeds)}" if len(seeds) > 1 else f"of the seed {seeds[0]}"


def refuse_equal(where: str, candidates: Sequence[Candidate]) -> None:
    """Refuse candidates that are the same run.

    Raises:
        UserError: such as for values that are only spelled differently.
    """
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        other = seen.setdefault(candidate.setting.key, candidate)
        if other is not candidate:
            raise UserError(
                f"{where}: select.over: {other.text()} and {candidate.text()} are the same run"
            )


def is_undecided(cell: CellPlan) -> bool:
    """Whether a cell's setting is still to be chosen."""
    return cell.selection is not None and cell.selection.chosen is None


def decide(grid: Grid, source: ReadRecords) -> Grid:
    """The same table with every choice made that its tuning runs allow.

    Args:
        grid: as planned.
        source: where the records of the tuning runs are.
    """
    undecided = [cell.selection for cell in grid.cells.values() if is_undecided(cell)]
    waiting = [selection for selection in undecided if selection is not None]
    if not waiting:
        return grid
    folders = {key: folder for s in waiting for key, folder in s.run_folders().items()}
    found = Found.of(source(folders), list(dict.fromkeys(s.place for s in waiting)))
    cells = {place: _decide(cell, found) for place, cell in grid.cells.items()}
    return replace(grid, cells=cells)


def _decide(cell: CellPlan, found: Found) -> CellPlan:
    selection = cell.selection
    if selection is None or selection.chosen is not None:
        return cell
    scored = tuple(
        replace(candidate, score=_score(selection, candidate, found))
        for candidate in selection.candidates
    )
    chosen = _best(scored, selection.direction)
    setting = cell.setting if chosen is None else scored[chosen].setting
    return replace(
        cell,
        setting=setting.with_seed(cell.setting.config.seed),
        selection=replace(selection, candidates=scored, chosen=chosen),
    )


def _score(selection: Selection, candidate: Candidate, found: Found) -> float | None:
    keys = candidate.setting.keys(selection.seeds)
    numbers = found.numbers(keys)
    done, diverged = found.done(numbers), found.status_is(numbers, Status.DIVERGED)
    values = found.at(numbers, selection.place)
    # A name that is wrong is told by the first run, not once all of them are spent.
    if (done & np.isnan(values)).any():
        record = found[keys[int(np.argmax(done & np.isnan(values)))]]
        hint = nearest(selection.by, record.validation) or "; it logs nothing in validation"
        raise UserError(f"select.by: '{selection.by}' is not logged by {record.experiment}{hint}")
    scores: list[float] = []
    for number, value in enumerate(values.tolist()):
        if diverged[number]:
            scores.append(math.nan)
        elif not done[number]:
            return None
        else:
            scores.append(value)
    return fmean(scores)


def _best(candidates: Sequence[Candidate], direction: str) -> int | None:
    """Number of the best candidate; None while one is unfinished, or where all diverged."""
    best: int | None = None
    for number, candidate in enumerate(candidates):
        if candidate.score is None:
            return None
        if math.isnan(candidate.score):
            continue
        sign = 1.0 if direction == "min" else -1.0
        known = None if best is None else candidates[best].score
        if known is None or sign * candidate.score < sign * known:
            best = number
    return best
