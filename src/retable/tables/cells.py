"""One cell of a table: its number over seeds, and what must be known beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from retable.tables.results import Judged
from retable.tables.select import Selection
from retable.tables.spec import Reported


@dataclass(frozen=True)
class Cell:
    """One number over seeds and the reported one beside it.

    Attributes:
        row: name in the table file.
        column: the same.
        metric: the same.
        mean: over the seeds, in the metric's printed unit; None where there is no number.
        std: standard deviation (ddof 1); None for fewer than two values.
        n: seeds behind the mean.
        values: by seed, in the metric's printed unit.
        n_planned: seeds that the table asks for; 0 where the cell is reported only.
        reported: the paper's number; None where there is none.
        judged: what the comparison with it says; None until it is made.
        marks: what must be known beside the number, such as ``partial 3/5``.
        run_keys: keys of the runs behind the values.
        lost_keys: keys of the runs that ended otherwise than done.
        raw: values as recorded, by seed, where they are relative to another row's; else empty.
        n_done: finished runs; more than ``n`` where some gave no value.
        ended: runs that ended otherwise, by how.
        n_absent: finished runs that have no such number, as the metric says they may; neither
            planned nor done.
        selected: how the setting was chosen, where it was.
        selection: the same with all candidates, and also where nothing is chosen yet.
    """

    row: str
    column: str
    metric: str
    mean: float | None
    std: float | None
    n: int
    n_planned: int
    values: dict[int, float]
    reported: Reported | None
    judged: Judged | None = None
    marks: list[str] = field(default_factory=list[str])
    run_keys: list[str] = field(default_factory=list[str])
    selected: str | None = None
    n_done: int = 0
    ended: dict[str, int] = field(default_factory=dict[str, int])
    n_absent: int = 0
    lost_keys: list[str] = field(default_factory=list[str])
    raw: dict[int, float] = field(default_factory=dict[int, float])
    selection: Selection | None = field(default=None, repr=False)

    @property
    def n_asked(self) -> int:
        """Seeds that are run for it, those included whose run has no such number."""
        return self.n_planned + self.n_absent

    @property
    def waits(self) -> bool:
        """Whether runs are still to be done; one that diverged is over."""
        return self.n_done + self.ended.get("diverged", 0) < self.n_planned


def mean_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 1); None where there are too few values."""
    if not values:
        return None, None
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def reported_marks(reported: Reported) -> list[str]:
    """Mark of a number that neither the paper nor its authors' material prints."""
    return [] if reported.grade == "primary" else [f"unverified ({reported.grade})"]
