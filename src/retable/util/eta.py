"""Times of a sweep: since when it goes on, what a run takes, and how long all will yet take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

Span = tuple[float, float]
"""Begin and end of a run, in seconds of the same clock."""

GAP_S = 120.0
"""After so long a pause the runs that follow count as another sweep."""

Took = Mapping[str, Sequence[float]]
"""Seconds of finished runs by setting."""


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


def expected(took: Took, going: Sequence[Going] = ()) -> Callable[[str], float | None]:
    """Seconds that a run of a setting takes, as a function of the setting.

    The mean over its finished runs; of a setting without any, what those that are being done come
    to by the part of them that is done; else the mean over the other settings, None where nothing
    is known of any.
    """
    means = {setting: fmean(seconds) for setting, seconds in took.items() if seconds}
    for setting in {run.setting for run in going} - means.keys():
        whole = [run.spent / run.done for run in going if run.setting == setting and run.done > 0]
        if whole:
            means[setting] = fmean(whole)
    other = fmean(means.values()) if means else None
    return lambda setting: means.get(setting, other)


def left(
    took: Took, waiting: Mapping[str, int], at_once: int, going: Sequence[Going] = ()
) -> float | None:
    """Seconds until all runs are at their end, None where nothing tells or none is ever begun.

    Args:
        took: seconds of finished runs by setting.
        waiting: how many runs of each setting have not begun.
        at_once: how many are done at the same time, as long as there are so many.
        going: runs that are being done.
    """
    seconds_of = expected(took, going)
    settings = {*waiting, *(run.setting for run in going)}
    whole = {setting: s for setting in settings if (s := seconds_of(setting)) is not None}
    if not whole or not at_once:
        return None
    rest = sum(n * whole[setting] for setting, n in waiting.items())
    for run in going:
        # Of one without epochs all that is known is how long it has been at it.
        part = 1 - run.done if run.done else max(1 - run.spent / whole[run.setting], 0.0)
        rest += part * whole[run.setting]
    return rest / max(min(at_once, sum(waiting.values()) + len(going)), 1)
