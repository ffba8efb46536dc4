"""Since when a table's runs go on, and how long they will yet take, by what they took so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

Span = tuple[float, float]
"""Begin and end of a run, in seconds of the same clock."""

GAP_S = 120.0
"""After so long a pause the runs that follow count as another sweep."""


def since(spans: Iterable[Span], gap: float = GAP_S) -> Span | None:
    """Begin and end of the last stretch of time in which runs followed on each other."""
    ordered = sorted(spans, key=lambda span: span[1], reverse=True)
    if not ordered:
        return None
    begin, end = ordered[0]
    for first, last in ordered:
        if last < begin - gap:
            break
        begin = min(begin, first)
    return begin, end


@dataclass(frozen=True)
class Going:
    """A run that is being done.

    Attributes:
        setting: what it is one seed of.
        done: which part of it is, 0 to 1; 0 where that is not known.
        spent: seconds since it began.
    """

    setting: str
    done: float
    spent: float


def left(
    going: Sequence[Going], waiting: Mapping[str, int], took: Mapping[str, Sequence[float]]
) -> float | None:
    """Seconds until all runs are at their end, None where nothing tells or nothing goes on.

    Args:
        going: runs that are being done, as many as will be at once.
        waiting: how many runs of each setting have not begun.
        took: seconds of finished runs by setting.
    """
    means = {setting: fmean(seconds) for setting, seconds in took.items() if seconds}
    for setting in {run.setting for run in going} - means.keys():
        whole = [run.spent / run.done for run in going if run.setting == setting and run.done > 0]
        if whole:
            means[setting] = fmean(whole)
    if not means or not going:
        return None
    other = fmean(means.values())
    rest = sum(n * means.get(setting, other) for setting, n in waiting.items())
    for run in going:
        whole_s = means.get(run.setting, other)
        # Of one without epochs all that is known is how long it has been at it.
        rest += whole_s * (1 - run.done) if run.done else max(whole_s - run.spent, 0.0)
    return rest / len(going)
