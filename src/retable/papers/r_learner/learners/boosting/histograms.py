"""Histograms of a leaf and the best cut that they show.

A histogram has four covariates to a block, from the highest bin down: of a bin first the four sums
of gradients, then the four of curvatures. The search for the best cut takes the four at a time in
one vector: sums over the bins above each cut, gains, the greatest gain so far. A block and what the
search notes of it fit into the nearest cache together.

The gain of a cut is ``G_l^2 / H_l + G_r^2 / H_r`` less that of the leaf, with the sums G of
gradients and H of curvatures on the left and right. Cuts are compared from the right and the first
of equals wins, the lower covariate before the higher. So the last bit counts: where bins are empty
neighbouring cuts differ by rounding alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import Array
from retable.papers.r_learner.learners.boosting.bins import LANES, PAIR, Entries, Index
from retable.papers.r_learner.learners.boosting.kernel import inner
from retable.papers.r_learner.learners.boosting.simd import (
    at_least,
    choose,
    floor,
    fused,
    larger,
    load,
    some,
    splat,
    store,
)

FOUR = (0, 0, 0, 0)
Mask = npt.NDArray[np.bool_]
TINY = 1e-15  # keeps curvatures from zero; LightGBM adds it in these places
_MIN_CURVATURE = 1e-3
_SLACK = 1e-11


@inner
def add_rows(entries: Entries, rows: Entries, g: Array, h: Array, out: Array) -> None:
    """Sum up the gradients ``g (n,)`` and curvatures ``h (n,)`` of some rows, in their order."""
    out[:] = 0.0
    for row in rows:
        row_g, row_h = g[row], h[row]
        for f in range(entries.shape[1]):
            k = entries[row, f]
            out[k] += row_g
            out[k + LANES] += row_h


@inner
def add_gradients(entries: Entries, g: Array, curvatures: Array, out: Array) -> None:
    """As :func:`add_rows` of all rows, where the sums of curvatures are known."""
    for k in range(len(out)):  # a slice would be copied first
        out[k] = curvatures[k]
    for row in range(len(g)):
        row_g = g[row]
        for f in range(entries.shape[1]):
            out[entries[row, f]] += row_g


@inner
def _less_all(table: Array, a: int, b: int, size: int, g: float, h: float, out: Array) -> None:
    """Totals less all bins, upwards, of the blocks that begin at ``a`` and at ``b``.

    Two blocks at once, since each subtraction waits for the one before.
    """
    g_a, h_a = splat(g, FOUR), splat(h, FOUR)
    g_b, h_b = g_a, h_a
    for k in range(size - PAIR, -1, -PAIR):
        g_a = g_a - load(table, a + k, FOUR)
        h_a = h_a - load(table, a + k + LANES, FOUR)
        g_b = g_b - load(table, b + k, FOUR)
        h_b = h_b - load(table, b + k + LANES, FOUR)
    store(out, 0, g_a)
    store(out, LANES, h_a)
    store(out, 2 * LANES, g_b)
    store(out, 3 * LANES, h_b)


@inner
def fill_rest(table: Array, g: float, h: float, rest: Index, work: Array) -> None:
    """Set the entries ``rest`` to the leaf's totals ``g``, ``h`` less all other bins, upwards."""
    blocks = len(rest) // LANES
    size = len(table) // blocks
    for f in range(len(rest)):
        if rest[f] >= 0:
            table[rest[f]] = table[rest[f] + LANES] = 0.0
    for a in range(0, blocks, 2):
        b = min(a + 1, blocks - 1)
        _less_all(table, a * size, b * size, size, g, h, work)
        for i in range(LANES):
            k, m = rest[a * LANES + i], rest[b * LANES + i]
            if k >= 0:
                table[k], table[k + LANES] = work[i], work[i + LANES]
            if b > a and m >= 0:
                table[m], table[m + LANES] = work[i + 2 * LANES], work[i + 3 * LANES]


@inner
def _subtract(block: Array, other: Array) -> None:
    for k in range(len(other)):
        block[k] -= other[k]


@inner
def _scan(
    block: Array, other: Array, g: float, h: float, n: float, least: float, right_g: Array,
    right_h: Array, score: Array, top: Array,
) -> int:  # fmt: skip
    """Sums right of each cut of a block's covariates, and scores that order the gains.

    A gain is ``h d^2 / (h_l h_r)`` with ``d = g_r - h_r g / h``; its score is ``d^2 / (h_l h_r)``,
    up to rounding, and -1 where a side is too small. Rows are not counted but estimated, bin by
    bin, from the curvatures, which is exact where all curvatures are equal. ``other``, where it is
    not empty, is subtracted from the block.

    Returns:
        Where in ``score`` no further cut leaves enough rows; ``top (4,)`` has the greatest scores.
    """
    size, minus = len(block) // 2, len(other) > 0
    all_h, mean, none = splat(h, FOUR), splat(-g / h, FOUR), splat(-1.0, FOUR)
    few, many = splat(least, FOUR), splat(n - least, FOUR)
    rows_per_h, half, flat = splat(n / h, FOUR), splat(0.5, FOUR), splat(_MIN_CURVATURE, FOUR)
    g_r, h_r, rows, best = splat(0.0, FOUR), splat(TINY, FOUR), splat(0.0, FOUR), none
    end = size
    for k in range(0, size, LANES):
        gradient, curvature = load(block, 2 * k, FOUR), load(block, 2 * k + LANES, FOUR)
        if minus:
            gradient = gradient - load(other, 2 * k, FOUR)
            curvature = curvature - load(other, 2 * k + LANES, FOUR)
            store(block, 2 * k, gradient)
            store(block, 2 * k + LANES, curvature)
        g_r = g_r + gradient
        h_r = h_r + curvature
        rows = rows + floor(curvature * rows_per_h + half)
        here = none
        if some(at_least(rows, few)):
            left = at_least(many, rows)
            if not some(left):
                end = k
                break
            store(right_g, k, g_r)
            store(right_h, k, h_r)
            h_l = all_h - h_r
            allowed = at_least(rows, few) & left & at_least(h_r, flat) & at_least(h_l, flat)
            d = fused(h_r, mean, g_r)
            here = choose(allowed, d * d / (h_l * h_r), none)
            best = larger(here, best)
        store(score, k, here)
    if minus and end < size:
        _subtract(block[2 * (end + LANES) :], other[2 * (end + LANES) :])
    store(top, 0, best)
    return end


@inner
def _exact(
    g: float, h: float, right_g: Array, right_h: Array, score: Array, low: float, k: int, end: int
) -> tuple[float, int]:
    """Of a covariate's cuts with about the greatest gain the best one, to the last bit."""
    best, where = 0.0, -1
    while k < end:
        if score[k] >= low:
            g_l, h_l = g - right_g[k], h - right_h[k]
            value = g_l * g_l / h_l + right_g[k] * right_g[k] / right_h[k]
            if value > best:
                best, where = value, k
        k += LANES
    return best, where


@inner
def best_cut(
    table: Array, other: Array, g: float, h: float, n: int, least: int, min_gain: float,
    open_: Mask, work: Array,
) -> tuple[float, int, int, float, float]:  # fmt: skip
    """The best cut of a leaf.

    Args:
        table: its histogram, or its parent's; then it becomes its own.
        other: its sibling's where ``table`` is the parent's, else empty.
        g: its sum of gradients.
        h: its sum of curvatures.
        n: its rows.
        least: least number of rows on a side.
        min_gain: what a gain has to exceed.
        open_: ``(4 * blocks,)`` covariates to look at; those without a cut are closed, also for the
            leaf's descendants.
        work: ``(4, at least 4 * (bins + 1))`` to work in.

    Returns:
        The gain, 0 if there is no cut; the covariate; the entry just right of the cut; the sums of
        gradients and curvatures left of it.
    """
    size = len(table) // (len(open_) // LANES)
    right_g, right_h, score, top = work[0], work[1], work[2], work[3]
    h = h + 2 * TINY
    leaf = g * g / h
    shift = leaf + min_gain
    slack = _SLACK * (1.0 + h)
    best, left_g, left_h = 0.0, 0.0, 0.0
    feature, cut = -1, -1
    for a in range(0, len(open_), LANES):
        if not open_[a : a + LANES].any():
            continue
        begin = a // LANES * size
        block = table[begin : begin + size]
        minus = other[begin : begin + size]
        end = _scan(block, minus, g, h, n, least, right_g, right_h, score, top)
        first = top[:LANES].argmax()
        for i in range(LANES):
            # The most promising first, so that most others need not be looked at closely.
            lane = (first + i) % LANES
            f = a + lane
            if not open_[f]:
                continue
            about = leaf + h * top[lane]
            low, high = about * (1 - slack), about * (1 + slack)
            open_[f] = top[lane] >= 0.0 and high > shift
            if open_[f] and (low <= shift or high - shift > best):
                low = max(top[lane] - 3 * slack * about / h, 0.0)
                value, k = _exact(g, h, right_g, right_h, score, low, lane, end)
                open_[f] = value > shift
                gain = value - shift
                if open_[f] and (gain > best or (gain == best and f < feature)):
                    best, feature, cut = gain, f, begin + 2 * k - lane
                    left_g, left_h = g - right_g[k], h - right_h[k]
    return best, feature, cut, left_g, left_h
