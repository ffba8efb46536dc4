"""Histograms of a leaf and the best cut that they show.

A histogram is a table of bins by covariates, from the highest bin down, kept flat: entry ``bin *
lanes + covariate``, first all sums of gradients, then all of curvatures. Covariates are padded to
a multiple of four, and the search for the best cut takes four of them at a time in one vector: sums
over the bins above each cut, gains, the greatest gain so far.

The gain of a cut is ``G_l^2 / H_l + G_r^2 / H_r`` less that of the leaf, with the sums G of
gradients and H of curvatures on the left and right. Cuts are compared from the right and the first
of equals wins, the lower covariate before the higher. So the last bit counts: where bins are empty
neighbouring cuts differ by rounding alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import Array
from retable.papers.r_learner.learners.boosting.bins import Entries, Index, Lanes
from retable.papers.r_learner.learners.boosting.kernel import inner
from retable.papers.r_learner.learners.boosting.simd import (
    at_least,
    choose,
    floor,
    load,
    some,
    splat,
    store,
)

FOUR = (0, 0, 0, 0)
Mask = npt.NDArray[np.bool_]
TINY = 1e-15  # keeps curvatures from zero; LightGBM adds it in these places
_MIN_CURVATURE = 1e-3
_SLACK = 1e-12


@inner
def add_rows(entries: Entries, rows: Entries, g: Array, h: Array, out: Array) -> None:
    """Sum up the gradients ``g (n,)`` and curvatures ``h (n,)`` of some rows, in their order."""
    out[:] = 0.0
    size = len(out) // 2
    out_g, out_h = out[:size], out[size:]
    for row in rows:
        row_g, row_h = g[row], h[row]
        for f in range(entries.shape[1]):
            k = entries[row, f]
            out_g[k] += row_g
            out_h[k] += row_h


@inner
def fill_rest(table: Array, g: float, h: float, rest: Index, work: Array, lanes: Lanes) -> None:
    """Set the entries ``rest`` to the leaf's totals ``g``, ``h`` less all other bins, upwards."""
    width = len(lanes)
    size = len(table) // 2
    table_g, table_h, tail_g, tail_h = table[:size], table[size:], work[0], work[1]
    for f in range(width):
        if rest[f] >= 0:
            table_g[rest[f]] = table_h[rest[f]] = 0.0
        tail_g[size + f], tail_h[size + f] = g, h
    for k in range(size - 1, -1, -1):
        tail_g[k] = tail_g[k + width] - table_g[k]
        tail_h[k] = tail_h[k + width] - table_h[k]
    for f in range(width):
        if rest[f] >= 0:
            table_g[rest[f]], table_h[rest[f]] = tail_g[f], tail_h[f]


@inner
def subtract(table: Array, other: Array) -> None:
    """``table -= other``."""
    for k in range(len(table)):
        table[k] -= other[k]


@inner
def _scan(
    table: Array, f: int, g: float, h: float, n: float, least: float, right_g: Array,
    right_h: Array, gain: Array, top: Array, lanes: Lanes,
) -> int:  # fmt: skip
    """Sums right of each cut of covariates ``f`` to ``f + 3``, and gains up to rounding.

    Gains are -1 where a side is too small. Rows are not counted but estimated, bin by bin, from the
    curvatures, which is exact where all curvatures are equal.

    Returns:
        The entry at which no further cut leaves enough rows; ``top (4,)`` has the greatest gains.
    """
    width, size = len(lanes), len(table) // 2
    all_g, all_h, none = splat(g, FOUR), splat(h, FOUR), splat(-1.0, FOUR)
    few, many = splat(least, FOUR), splat(n - least, FOUR)
    rows_per_h, half, flat = splat(n / h, FOUR), splat(0.5, FOUR), splat(_MIN_CURVATURE, FOUR)
    g_r, h_r, rows, best = splat(0.0, FOUR), splat(TINY, FOUR), splat(0.0, FOUR), none
    end = size
    for k in range(f, size, width):
        curvature = load(table, size + k, FOUR)
        g_r = g_r + load(table, k, FOUR)
        h_r = h_r + curvature
        rows = rows + floor(curvature * rows_per_h + half)
        store(right_g, k, g_r)
        store(right_h, k, h_r)
        here = none
        if some(at_least(rows, few)):
            left = at_least(many, rows)
            if not some(left):
                end = k
                break
            g_l, h_l = all_g - g_r, all_h - h_r
            allowed = at_least(rows, few) & left & at_least(h_r, flat) & at_least(h_l, flat)
            here = (g_l * g_l * h_r + g_r * g_r * h_l) / (h_l * h_r)
            here = choose(allowed, here, none)
            best = choose(at_least(here, best), here, best)
        store(gain, k, here)
    store(top, 0, best)
    return end


@inner
def _exact(
    g: float, h: float, right_g: Array, right_h: Array, gain: Array, low: float, k: int, end: int,
    width: int,
) -> tuple[float, int]:  # fmt: skip
    """Of a covariate's cuts with about the greatest gain the best one, to the last bit."""
    best, where = 0.0, -1
    while k < end:
        if gain[k] >= low:
            g_l, h_l = g - right_g[k], h - right_h[k]
            value = g_l * g_l / h_l + right_g[k] * right_g[k] / right_h[k]
            if value > best:
                best, where = value, k
        k += width
    return best, where


@inner
def best_cut(
    table: Array, g: float, h: float, n: int, least: int, min_gain: float, open_: Mask, work: Array,
    lanes: Lanes,
) -> tuple[float, int, float, float]:  # fmt: skip
    """The best cut of a leaf.

    Args:
        table: its histogram.
        g: its sum of gradients.
        h: its sum of curvatures.
        n: its rows.
        least: least number of rows on a side.
        min_gain: what a gain has to exceed.
        open_: ``(lanes,)`` covariates to look at; those without a cut are closed, also for the
            leaf's descendants.
        work: ``(4, (bins + 1) * lanes)`` to work in.
        lanes: a tuple as long as histograms are wide.

    Returns:
        The gain, 0 if there is no cut; the entry just right of the cut; the sums of gradients and
        curvatures left of it.
    """
    width = len(lanes)
    right_g, right_h, gain, top = work[0], work[1], work[2], work[3]
    h = h + 2 * TINY
    shift = g * g / h + min_gain
    best, cut, end = 0.0, -1, 0
    for f in range(width):
        if f % 4 == 0 and open_[f : f + 4].any():
            end = _scan(table, f, g, h, n, least, right_g, right_h, gain, top, lanes)
        if not open_[f]:
            continue
        low, high = top[f % 4] * (1 - _SLACK), top[f % 4] * (1 + _SLACK)
        open_[f] = high > shift
        if open_[f] and (low <= shift or high - shift > best):
            value, k = _exact(g, h, right_g, right_h, gain, low, f, end, width)
            open_[f] = value > shift
            if open_[f] and value - shift > best:
                best, cut = value - shift, k
    if cut < 0:
        return best, cut, 0.0, 0.0
    return best, cut, g - right_g[cut], h - right_h[cut]
