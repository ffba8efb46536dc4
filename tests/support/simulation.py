"""The rules of a cell for arrays of repetitions: only so are 40,000 of them a matter of seconds.

`test_simulations.py` holds that they say what `retable.tables.verdicts.cell` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

KINDS = ("reproduced", "consistent", "undecided", "different")


@dataclass(frozen=True)
class Sample:
    """Mean and standard deviation of `n` runs, in each repetition."""

    mean: np.ndarray
    std: np.ndarray | None
    n: int


def normal(rng: np.random.Generator, n: int, reps: int, mean: float = 0.0, sd: float = 1.0):
    """Mean and standard deviation of n normal runs, which are independent."""
    means = rng.normal(mean, sd / np.sqrt(n), reps)
    std = sd * np.sqrt(rng.chisquare(n - 1, reps) / (n - 1)) if n > 1 else None
    return Sample(means, std, n)


def measured(values: np.ndarray) -> Sample:
    """Of runs, one repetition a row."""
    return Sample(values.mean(axis=1), values.std(axis=1, ddof=1), values.shape[1])


def without_spread(sample: Sample) -> Sample:
    """A paper that prints no spread."""
    return Sample(sample.mean, None, sample.n)


def intervals(
    ours: Sample, theirs: Sample, *, h: float = 0.0, level: float = 0.95, welch_only: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Difference and half width of the interval."""
    n, n_r = ours.n, theirs.n
    s, s_r = ours.std, theirs.std
    assert s is not None
    if s_r is None:
        se, df = s * np.sqrt(1 / n + 1 / n_r), np.full(s.shape, n - 1.0)
    else:
        v, v_r = s**2 / n, s_r**2 / n_r
        se = np.sqrt(v + v_r)
        df = (v + v_r) ** 2 / (v**2 / (n - 1) + v_r**2 / (n_r - 1))
        if n_r >= 20 and n < n_r and not welch_only:
            few = s < s_r
            se = np.where(few, s_r * np.sqrt(1 / n + 1 / n_r), se)
            df = np.where(few, n_r - 1, df)
    return ours.mean - theirs.mean, stats.t.ppf((1 + level) / 2, df) * se + h


def kinds(d: np.ndarray, half: np.ndarray, margin: float, h: float = 0.0) -> np.ndarray:
    """Verdicts, as places in KINDS."""
    size = np.abs(d)
    return np.select(
        [size + half < margin, size > half, size <= max(margin, h)],
        [KINDS.index("reproduced"), KINDS.index("different"), KINDS.index("consistent")],
        KINDS.index("undecided"),
    )


def shares(found: np.ndarray) -> list[float]:
    """Per cent of each verdict."""
    return (100 * np.bincount(found, minlength=len(KINDS)) / len(found)).tolist()


def coverage(d: np.ndarray, half: np.ndarray, truth: float = 0.0) -> float:
    """Per cent of intervals that contain the truth."""
    return float(100 * np.mean(np.abs(d - truth) <= half))


def false_alarms(
    values: np.ndarray, theirs: Sample, at: Sequence[int], levels: Sequence[float], margin: float
) -> float:
    """Per cent of repetitions that stop at a look, and say better or worse there.

    Args:
        values: our runs, one repetition a row.
        theirs: the reported numbers.
        at: seeds at each look.
        levels: of the interval at each look.
        margin: difference that would not matter.
    """
    open_, wrong = np.ones(len(values), dtype=bool), 0
    for n, level in zip(at, levels, strict=True):
        d, half = intervals(measured(values[:, :n]), theirs, level=level)
        found = kinds(d, half, margin)
        wrong += int(np.sum(open_ & (found == KINDS.index("different"))))
        open_ &= (found == KINDS.index("consistent")) | (found == KINDS.index("undecided"))
    return 100 * wrong / len(values)
