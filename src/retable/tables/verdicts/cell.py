"""One cell against its reported number: the interval of the difference, the margin, the verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Literal

from retable.tables.results import Difference, Margin, Reading, Rule, VerdictKind
from retable.tables.verdicts.distributions import ROUNDING, combined, t_quantile, t_tail
from retable.util.errors import UserError

Direction = Literal["min", "max", "none"]

MANY_RUNS = 20
"""Reported runs from which on fewer runs of ours may not claim less spread than theirs."""

TOLERANCE_UNITS = 0.6
"""Tolerance of a deterministic cell, in units of the last printed digit."""


def floored(std: float | None, quantum: float | None) -> float | None:
    """Standard deviation, at least that of rounding to a quantum: equal runs are no certainty."""
    if std is None or quantum is None:
        return std
    return max(std, quantum / math.sqrt(12))


def standard_error(
    std: float | None, n: int, reading: Reading
) -> tuple[Rule, float | None, float | None]:
    """Which rule applies, the standard error of ours less reported, its degrees of freedom.

    Args:
        std: ours, as used (see :func:`floored`); has no say where ``n`` is 1.
        n: our runs.
        reading: the reported number.
    """
    theirs, n_r = reading.std, reading.n
    ours = std if n >= 2 else None
    if n < 1 or (ours is None and theirs is None):
        return "none", None, None
    if ours is None or theirs is None:
        # Both sides are taken to vary alike.
        same, rule = (theirs, "one run") if ours is None else (ours, "equal spread")
        df = n_r - 1 if ours is None else n - 1
        return rule, (same or 0.0) * math.sqrt(1 / n + 1 / n_r), df
    if n_r >= MANY_RUNS and n < n_r and ours < theirs:
        return "reported spread", theirs * math.sqrt(1 / n + 1 / n_r), n_r - 1
    se, df = combined([ours / math.sqrt(n), theirs / math.sqrt(n_r)], [n - 1, n_r - 1])
    return "welch", se, df


def difference(
    mean: float,
    std: float | None,
    n: int,
    reading: Reading,
    *,
    quantum: float | None = None,
    level: float = 0.95,
) -> Difference:
    """Ours less reported, with its interval [d - H, d + H] and two-sided p.

    H = t((1 + level)/2, df) se + h, by the first rule that applies:

    - ``reported spread``: many reported runs that vary more than our few; s_r^2 (1/n + 1/n_r)
    - ``welch``: both spreads; s^2/n + s_r^2/n_r (Welch 1947)
    - ``equal spread``: no reported spread; s^2 (1/n + 1/n_r)
    - ``one run``: one run of ours; s_r^2 (1/n + 1/n_r)
    - ``none``: no interval

    Args:
        mean: ours, in the printed unit.
        std: ours (ddof 1); None for one run.
        n: our runs.
        reading: the reported number.
        quantum: smallest step of the metric, in the printed unit.
        level: of the interval.
    """
    if not math.isfinite(mean):
        raise ValueError(f"a mean has to be a finite number, not {mean}")
    d = mean - reading.value
    s = floored(std, quantum) if n >= 2 else None
    rule, se, df = standard_error(s, n, reading)
    if se is None or df is None:
        return Difference(d, reading.h, "none", level=level)
    beyond = max(abs(d) - reading.h, 0.0)
    if se > 0:
        p = 2 * t_tail(beyond / se, df)
    else:
        p = 1.0 if beyond <= rounding_of(mean, reading.value) else 0.0
    half = t_quantile((1 + level) / 2, df) * se + reading.h
    return Difference(d, reading.h, rule, se, df, half, p, level, s)


def default_tolerance(reading: Reading, unit: float) -> float:
    """Tolerance of a deterministic cell: 0.6 units of the last printed digit.

    What a number read off a plot is uncertain by comes on top.

    Args:
        reading: the reported number.
        unit: of its last printed digit, see :func:`retable.tables.verdicts.reported.last_digit`.
    """
    return TOLERANCE_UNITS * unit + max(reading.h - 0.5 * unit, 0.0)


def deterministic_difference(
    mean: float, reading: Reading, tolerance: float
) -> tuple[Difference, bool]:
    """A number that is the same for every seed: the difference, and whether it is reproduced."""
    d = mean - reading.value
    same = abs(d) <= tolerance + rounding_of(mean, reading.value)
    p = 1.0 if same else 0.0
    return Difference(d, reading.h, "deterministic", 0.0, None, tolerance, p), same


def margin_of(
    reading: Reading,
    *,
    where: str,
    given: Iterable[tuple[float | None, str]] = (),
    n_test: int | None = None,
    scale: float = 1.0,
    quantum: float | None = None,
    stds: Iterable[float | None] = (),
    positive: bool = False,
) -> Margin:
    """The difference that would not matter: the first that exists, and where it comes from.

    1. a given one: of the cell, the column or the metric
    2. of a proportion over ``n_test`` examples: a binomial standard error, at least a quantum
    3. the median reported standard deviation of the column
    4. 5 % of a positive metric without a ceiling

    A default is raised to 2h. It is never taken from our own spread: three times the noise would
    then buy a verdict.

    Args:
        reading: the reported number.
        where: it stands, for the refusal.
        given: margins of the table file with their origins, the first that is one counts.
        n_test: examples that the value is a proportion of.
        scale: what a proportion of 1 is printed as: 100 for per cent.
        quantum: smallest step of the metric; one example where left out.
        stds: reported standard deviations of the column.
        positive: whether the metric is positive and has no ceiling.

    Raises:
        UserError: where no margin can be had, or a proportion is none.
    """
    h, value = reading.h, reading.value
    for margin, origin in given:
        if margin is not None:
            low = f"margin {margin:g} is below h = {h:.4g}: 'reproduced' cannot be reached"
            return Margin(margin, origin, low if margin < h else None)
    known = [std for std in stds if std is not None]
    if n_test is not None:
        if not 0 <= value <= scale:
            raise UserError(
                f"{where}: n_test: {value:g} is not a proportion; leave n_test out and set a margin"
            )
        least = quantum if quantum is not None else scale / n_test
        found = max(math.sqrt(value * (scale - value) / n_test), least)
        origin = f"binomial standard error over {n_test} examples"
    elif known:
        found, origin = statistics.median(known), "median reported standard deviation of the column"
    elif positive:
        found, origin = 0.05 * abs(value), "5 % of the reported value"
    else:
        found, origin = 0.0, ""
    if found == 0:
        raise UserError(
            f"{where}: nothing says which difference would not matter; set a margin: of the metric,"
            " the column or the reported cell"
        )
    if found < 2 * h:
        return Margin(2 * h, f"{origin}, raised to 2h")
    return Margin(found, origin)


def verdict(
    difference: Difference,
    n: int,
    margin: float,
    direction: Direction,
    *,
    mean: float,
    reported: float,
    ideal: float | None = None,
) -> VerdictKind:
    """The first line that applies.

    Args:
        difference: of :func:`difference` or :func:`deterministic_difference`.
        n: our runs.
        margin: difference that would not matter; has no say where the cell is deterministic.
        direction: whether small or large is better.
        mean: ours.
        reported: theirs.
        ideal: value that is best, instead of a direction; nearer to it is better.
    """
    size, half = abs(difference.d), difference.half
    rounding = rounding_of(mean, reported)
    if half is None:
        return "undecided"
    if difference.rule == "deterministic":
        if size <= half + rounding:
            return "reproduced"
        return _side(difference.d, direction, mean, reported, ideal)
    # Strictly: equal runs at exactly the margin differ from the paper.
    if n >= 2 and size + half < margin - rounding:
        return "reproduced"
    if size - half > rounding:
        return _side(difference.d, direction, mean, reported, ideal)
    if size <= max(margin, difference.h) + rounding:
        return "consistent"
    return "undecided"


def _side(
    d: float, direction: Direction, mean: float, reported: float, ideal: float | None
) -> VerdictKind:
    if ideal is not None:
        nearer = abs(reported - ideal) - abs(mean - ideal)
        if nearer != 0:
            return "better" if nearer > 0 else "worse"
    elif direction != "none":
        return "better" if (d < 0) == (direction == "min") else "worse"
    return "higher" if d > 0 else "lower"


def rounding_of(mean: float, reported: float) -> float:
    """Tolerance for rounding errors between equal numbers of this size."""
    return ROUNDING * max(abs(mean), abs(reported))
