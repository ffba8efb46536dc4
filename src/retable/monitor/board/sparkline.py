"""A curve in one line of a terminal: a block of eight heights per column."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
_MIDDLE = BLOCKS[3]


def sparkline(values: Sequence[float], width: int) -> str:
    """Blocks between the lowest and the highest of a curve's values.

    Args:
        values: in order; more than ``width`` of them are averaged, as many as evenly fit a block.
        width: columns at most.

    Returns:
        A block per value, or ``width`` blocks; "" of no values. A constant curve is in the middle.

    Raises:
        ValueError: for a value that is not finite, or a width below 1.
    """
    if width < 1:
        raise ValueError(f"a width of {width}")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a value is not finite")
    shown = resample(values, width)
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if low == high:
        return _MIDDLE * len(shown)
    if not math.isfinite(high - low):  # of numbers so large, halves are exact
        shown, low, high = [value / 2 for value in shown], low / 2, high / 2
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((value - low) / (high - low) * top)] for value in shown)


def resample(values: Sequence[float], width: int) -> list[float]:
    """At most ``width`` values: means of parts of equal length, give or take one."""
    n = len(values)
    if n <= width:
        return list(values)
    edges = [i * n // width for i in range(width + 1)]
    parts = [values[a:b] for a, b in itertools.pairwise(edges)]
    # Divided before they are summed: the sum of two finite numbers may not be.
    return [sum(value / len(part) for value in part) for part in parts]
