"""Sample sizes: seeds that would decide, and the looks of a table run until it is decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, count

import numpy as np
from scipy import special

from retable.tables.results import Needed, Reading
from retable.tables.verdicts.cell import floored, standard_error
from retable.tables.verdicts.distributions import between, t_quantile, t_tail_noncentral

POWER = 0.8
"""Probability of a decision that seeds needed are counted for."""

MOST = 1000
"""Seeds up to which is searched."""

FIRST_LOOKS = (3, 5, 10, 20, 40, 80)
"""Seeds at which is looked; from there on twice as many each time."""

HOPELESS = 0.1
"""Chance of being settled at the last look below which a cell or claim is dropped."""


def needed_claim(theta: float, std: float, *, alpha: float = 0.05, most: int = MOST) -> Needed:
    """Least number of seeds at which a claim would be upheld or contradicted.

    The least n with nct.sf(t(1 - alpha, n - 1), n - 1, sqrt(n) |theta|/std) >= 0.8, where the
    true effect and spread are taken to be what they seem today.

    Args:
        theta: effect, see :class:`retable.tables.results.Effect`.
        std: of the sum of one seed.
        alpha: one-sided level.
        most: seeds up to which is searched.
    """
    n = np.arange(2, most + 1)
    return _needed(n, _chance_claim(theta, std, n, alpha), f"more than {most:,}")


def needed_tie(
    theta: float, std: float, margin: float, *, alpha: float = 0.05, most: int = MOST
) -> Needed:
    """Least number of seeds at which a tie would be upheld or contradicted.

    As for a cell that may be reproduced: the bounds within +-margin, or wholly outside.

    Args:
        theta: difference, see :class:`retable.tables.results.Effect`.
        std: of the difference of one seed.
        margin: difference that would not matter.
        alpha: one-sided level.
        most: seeds up to which is searched.
    """
    n = np.arange(2, most + 1)
    return _needed(n, _chance_tie(theta, std, margin, n, alpha), f"more than {most:,}")


def needed_cell(
    mean: float,
    std: float | None,
    reading: Reading,
    margin: float,
    *,
    quantum: float | None = None,
    level: float = 0.95,
    most: int = MOST,
) -> Needed:
    """Least number of seeds at which a cell would be reproduced, or be better or worse.

    With the difference and spread of today, and the reported number as it is: often there is
    none, because our seeds do not shrink the paper's own error.

    Args:
        mean: ours.
        std: ours; None for one run, where the reported spread stands for it.
        reading: the reported number.
        margin: difference that would not matter.
        quantum: smallest step of the metric.
        level: of the interval.
        most: seeds up to which is searched.
    """
    s = reading.std if std is None else floored(std, quantum)
    if s is None:
        return Needed(None, "not known: one run, and no reported spread")
    floor = paper_uncertainty(s, reading, level)
    n = np.arange(2, most + 1)
    same, other = _chances_cell(mean - reading.value, s, reading, margin, n, level)
    last = _chances_cell(mean - reading.value, s, reading, margin, np.array([10**9]), level)
    if floor >= margin:
        none = f"the paper's own uncertainty (±{floor:.3g}) exceeds the margin"
    elif max(last)[0] < POWER:
        none = f"no number: the paper's own uncertainty (±{floor:.3g}) is too near the margin"
    else:
        none = f"more than {most:,}"
    return _needed(n, np.maximum(same, other), none, floor)


def paper_uncertainty(s: float, reading: Reading, level: float = 0.95) -> float:
    """Half width that the interval of a cell keeps with ever so many seeds of ours.

    t s_r/sqrt(n_r) + h; without a reported spread ours stands for it, known exactly in the end.

    Args:
        s: our standard deviation.
        reading: the reported number.
        level: of the interval.
    """
    q = (1 + level) / 2
    if reading.std is None:
        return float(special.ndtri(q)) * s / math.sqrt(reading.n) + reading.h
    return t_quantile(q, reading.n - 1) * reading.std / math.sqrt(reading.n) + reading.h


def chance_settled_claim(theta: float, std: float, n: int, *, alpha: float = 0.05) -> float:
    """Probability that a claim is upheld or contradicted at ``n`` seeds, by today's numbers.

    Arguments as of :func:`needed_claim`.
    """
    return float(_chance_claim(theta, std, np.array([n]), alpha)[0])


def chance_settled_tie(
    theta: float, std: float, margin: float, n: int, *, alpha: float = 0.05
) -> float:
    """Probability that a tie is upheld or contradicted at ``n`` seeds, by today's numbers.

    Arguments as of :func:`needed_tie`.
    """
    return float(_chance_tie(theta, std, margin, np.array([n]), alpha)[0])


def chance_settled_cell(
    mean: float,
    std: float | None,
    reading: Reading,
    margin: float,
    n: int,
    *,
    quantum: float | None = None,
    level: float = 0.95,
) -> float:
    """Probability that a cell is reproduced, better or worse at ``n`` seeds, by today's numbers.

    Arguments as of :func:`needed_cell`. 1 where today's numbers say nothing about the spread: what
    is not known is not hopeless.
    """
    s = reading.std if std is None else floored(std, quantum)
    if s is None:
        return 1.0
    d = mean - reading.value
    same, other = _chances_cell(d, s, reading, margin, np.array([n]), level)
    return float(min(same[0] + other[0], 1.0))


def looks(most: int, first: Sequence[int] = FIRST_LOOKS) -> list[int]:
    """Seeds at which a table is looked at: 3, 5, 10, 20, 40, 80 and on, ``most`` the last.

    They are fixed before the first run, because the error is spent over them.

    Raises:
        ValueError: where ``most`` is below 1.
    """
    if most < 1:
        raise ValueError(f"looks up to {most} seeds")
    onwards = (first[-1] * 2**k for k in count(1))
    out: list[int] = []
    for n in chain(first, onwards):
        if n >= most:
            return [*out, most]
        out.append(n)
    raise AssertionError("count has no end")


def alphas(looks: Sequence[int], total: float = 0.05) -> list[float]:
    """Level that each look spends: in proportion to its seeds.

    A union bound: holds for any dependence between looks and any reason to stop early.
    """
    return [total * n / sum(looks) for n in looks]


def _needed(n: np.ndarray, chance: np.ndarray, none: str, floor: float | None = None) -> Needed:
    reached = np.flatnonzero(chance >= POWER)
    if not reached.size:
        return Needed(None, none, floor)
    least = int(n[reached[0]])
    return Needed(least, f"about {least}", floor)


def _chance_claim(theta: float, std: float, n: np.ndarray, alpha: float) -> np.ndarray:
    if std == 0:
        return np.full(n.shape, 1.0 if theta else 0.0)
    df = np.maximum(n - 1, 1)
    chance = t_tail_noncentral(special.stdtrit(df, 1 - alpha), df, np.sqrt(n) * (abs(theta) / std))
    return np.where(n > 1, chance, 0.0)  # one seed decides nothing


def _chance_tie(theta: float, std: float, margin: float, n: np.ndarray, alpha: float) -> np.ndarray:
    size = abs(theta)
    if std == 0:
        return np.full(n.shape, 1.0)
    df, se = np.maximum(n - 1, 1), std / np.sqrt(n)
    room = margin - special.stdtrit(df, 1 - alpha) * se
    within = np.where(room > 0, between((-room - size) / se, (room - size) / se), 0.0)
    outside = _chance_claim(size - margin, std, n, alpha) if size > margin else 0.0
    return np.where(n > 1, np.maximum(within, outside), 0.0)


def _chances_cell(
    d: float, s: float, reading: Reading, margin: float, n: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that a cell is reproduced, and that it is better or worse, at each n."""
    rules = [standard_error(s, int(k), reading) for k in n]
    se = np.array([se if se is not None else math.inf for _, se, _ in rules])
    df = np.array([df if df is not None else 1.0 for _, _, df in rules])
    # Errors of 0 (equal runs, no quantum, no spread) are taken as next to nothing.
    se = np.maximum(se, 1e-9 * max(abs(d), margin, reading.h))
    t = special.stdtrit(df, (1 + level) / 2)
    room = margin - t * se - reading.h
    same = between((-room - d) / se, (room - d) / se)
    other = t_tail_noncentral(t + reading.h / se, df, abs(d) / se)
    enough = n > 1
    return np.where(enough & (room > 0), same, 0.0), np.where(enough, other, 0.0)
