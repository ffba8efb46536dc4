"""Boosting: trees grown leaf by leaf, the best cut first, each on the gradients of the last score.

Only the smaller child of a split is summed up; its sibling's histogram is the difference from the
parent's. Rows held out are sorted into the leaves along with the others, so that a tree need not be
kept: all that is left of it are scores.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from retable.papers.r_learner.learners.base import Array
from retable.papers.r_learner.learners.boosting.bins import LANES, Entries, Index, Table
from retable.papers.r_learner.learners.boosting.histograms import (
    TINY,
    Mask,
    add_gradients,
    add_rows,
    best_cut,
    fill_rest,
)
from retable.papers.r_learner.learners.boosting.kernel import inner, kernel


class Rule(NamedTuple):
    """When a leaf is cut: ``leaves`` at most, ``least`` rows in each, gain above ``min_gain``."""

    leaves: int
    least: int
    min_gain: float


class Leaves(NamedTuple):
    """The leaves of the tree that grows, one entry each.

    Attributes:
        begin: ``(leaves, 2)`` where its rows begin in the order of seen and of held-out rows.
        end: ``(leaves, 2)`` where they end.
        g: sum of gradients.
        h: sum of curvatures.
        gain: of its best cut; 0 where it is not to be cut.
        feature: the covariate of that cut.
        cut: entry of a histogram just right of it.
        left_g: sum of gradients left of it.
        left_h: sum of curvatures left of it.
        value: what the leaf adds to a score, before the learning rate.
        slot: number of its histogram.
        open_: ``(leaves, 4 * blocks)`` covariates that may be cut.
    """

    begin: Index
    end: Index
    g: Array
    h: Array
    gain: Array
    feature: Index
    cut: Index
    left_g: Array
    left_h: Array
    value: Array
    slot: Index
    open_: Mask


class Space(NamedTuple):
    """Memory that trees share: orders of rows, histograms by slot, room to work in.

    ``root`` has the curvatures of the first leaf's histogram where they are the same for all trees,
    and is empty where they are not.
    """

    seen: Entries
    held: Entries
    spare: Entries
    tables: Array
    root: Array
    work: Array


@kernel
def _no_leaves(leaves: int, width: int) -> Leaves:
    return Leaves(
        np.empty((leaves, 2), np.int64),
        np.empty((leaves, 2), np.int64),
        np.empty(leaves),
        np.empty(leaves),
        np.empty(leaves),
        np.empty(leaves, np.int64),
        np.empty(leaves, np.int64),
        np.empty(leaves),
        np.empty(leaves),
        np.empty(leaves),
        np.empty(leaves, np.int64),
        np.empty((leaves, width), np.bool_),
    )


@inner
def _part(entries: Entries, f: int, cut: int, rows: Entries, spare: Entries) -> int:
    """Move rows right of a cut behind the others, both in their order; the number of the others."""
    left = right = 0
    for row in rows:
        goes = entries[row, f] <= cut
        rows[left] = row
        spare[right] = row
        left += not goes
        right += goes
    for i in range(right):
        rows[left + i] = spare[i]
    return left


@inner
def _split(leaves: Leaves, a: int, b: int, table: Table, space: Space) -> None:
    """Cut leaf ``a``: its left part keeps the number, the right one is ``b``."""
    f = leaves.feature[a]
    for kind in range(2):
        begin, end = leaves.begin[a, kind], leaves.end[a, kind]
        if kind == 0:
            n_left = _part(table.seen, f, leaves.cut[a], space.seen[begin:end], space.spare)
        else:
            n_left = _part(table.held, f, leaves.cut[a], space.held[begin:end], space.spare)
        leaves.begin[b, kind], leaves.end[b, kind] = begin + n_left, end
        leaves.end[a, kind] = begin + n_left
    h = leaves.h[a] + 2 * TINY
    left_g, left_h = leaves.left_g[a], leaves.left_h[a]
    right_g, right_h = leaves.g[a] - left_g, h - left_h
    leaves.value[a], leaves.value[b] = -left_g / left_h, -right_g / right_h
    leaves.g[a], leaves.g[b] = left_g, right_g
    leaves.h[a], leaves.h[b] = left_h - TINY, right_h - TINY
    leaves.gain[a] = leaves.gain[b] = 0.0


@inner
def _sum_up(leaves: Leaves, j: int, table: Table, space: Space, g: Array, h: Array) -> None:
    """Make the histogram of a leaf from its rows."""
    out = space.tables[leaves.slot[j]]
    rows = space.seen[leaves.begin[j, 0] : leaves.end[j, 0]]
    if len(rows) == len(g) and len(space.root):
        add_gradients(table.seen, g, space.root, out)
    else:
        add_rows(table.seen, rows, g, h, out)
    if table.rest.max() >= 0:
        fill_rest(out, leaves.g[j], leaves.h[j], table.rest, space.work[0])


@inner
def _look(leaves: Leaves, j: int, other: Array, space: Space, rule: Rule) -> None:
    """Find the best cut of a leaf that has a histogram, or its parent's and its sibling's."""
    n = leaves.end[j, 0] - leaves.begin[j, 0]
    if n < 2 * rule.least:
        return
    gain, feature, cut, left_g, left_h = best_cut(
        space.tables[leaves.slot[j]], other, leaves.g[j], leaves.h[j], n, rule.least,
        rule.min_gain, leaves.open_[j], space.work,
    )  # fmt: skip
    leaves.gain[j], leaves.feature[j], leaves.cut[j] = gain, feature, cut
    leaves.left_g[j], leaves.left_h[j] = left_g, left_h


@inner
def _next(leaves: Leaves, count: int) -> int:
    """The leaf with the greatest gain; of equals the one with the lowest covariate."""
    best = 0
    for j in range(1, count):
        better = leaves.gain[j] > leaves.gain[best]
        if leaves.gain[j] == leaves.gain[best] > 0.0:
            better = leaves.feature[j] < leaves.feature[best]
        if better:
            best = j
    return best


@inner
def _grow(
    leaves: Leaves, usable: Mask, table: Table, space: Space, g: Array, h: Array, rule: Rule
) -> int:
    """Grow one tree; the number of its leaves."""
    n, nothing = len(g), space.tables[0, :0]
    leaves.begin[0] = 0
    leaves.end[0, 0], leaves.end[0, 1] = n, len(space.held)
    leaves.slot[0] = 0
    for f in range(len(usable)):
        leaves.open_[0, f] = usable[f]
    leaves.gain[0] = total_g = total_h = 0.0
    for i in range(n):
        space.seen[i] = i
        total_g += g[i]
        total_h += h[i]
    for i in range(len(space.held)):
        space.held[i] = i
    leaves.g[0], leaves.h[0] = total_g, total_h
    if n >= 2 * rule.least:
        _sum_up(leaves, 0, table, space, g, h)
        _look(leaves, 0, nothing, space, rule)
    count = used = 1
    while count < rule.leaves:
        a, b = _next(leaves, count), count
        if leaves.gain[a] <= 0.0:
            break
        _split(leaves, a, b, table, space)
        count += 1
        n_a, n_b = leaves.end[a, 0] - leaves.begin[a, 0], leaves.end[b, 0] - leaves.begin[b, 0]
        if count == rule.leaves or max(n_a, n_b) < 2 * rule.least:
            continue
        small, large = (a, b) if n_a < n_b else (b, a)
        leaves.slot[small], leaves.slot[large] = used, leaves.slot[a]
        for f in range(len(usable)):
            leaves.open_[b, f] = leaves.open_[a, f]
        _sum_up(leaves, small, table, space, g, h)
        _look(leaves, small, nothing, space, rule)
        _look(leaves, large, space.tables[used], space, rule)
        if leaves.gain[small] > 0.0:
            used += 1  # else the next may have its memory, which is near
    return count


@kernel
def _start(y: Array, w: Array, probability: bool) -> float:
    """The constant that minimises the loss; weighted where there are weights."""
    total, weight = 0.0, 0.0
    for i in range(len(y)):
        total += y[i] * w[i] if len(w) else y[i]
        weight += w[i] if len(w) else 1.0
    mean = total / weight
    return math.log(mean / (1.0 - mean)) if probability else mean


@inner
def _gradients(score: Array, y: Array, w: Array, probability: bool, g: Array, h: Array) -> None:
    """First and second derivatives of the loss in each row's score, in single precision."""
    for i in range(len(y)):
        if probability:
            sign = 2.0 * y[i] - 1.0
            response = -sign / (1.0 + math.exp(sign * score[i]))
            curvature = abs(response) * (1.0 - abs(response))
            if len(w):
                response *= w[i]
                curvature *= w[i]
            g[i], h[i] = np.float32(response), np.float32(curvature)
        else:
            g[i] = np.float32(score[i] - y[i])
            if len(w):
                g[i] = np.float32(g[i] * w[i])


@kernel
def _usable(counts: Index, least: int) -> Mask:
    """Covariates with a cut that leaves enough of all rows on both sides."""
    bins, width = counts.shape
    out = np.zeros(width, np.bool_)
    for f in range(width):
        right, n = 0, counts[:, f].sum()
        for k in range(bins):
            right += counts[k, f]
            out[f] |= right >= least and n - right >= least
    return out


@kernel
def boost(
    table: Table, y: Array, w: Array, probability: bool, n_trees: Index, rates: Array,
    n_leaves: Index, least: Index, min_gain: Array,
) -> Array:  # fmt: skip
    """Fit candidates to the rows seen and predict the rows held out.

    Args:
        table: bins of all rows.
        y: ``(n,)``, 0 or 1 for probabilities; in single precision, as weights are.
        w: ``(n,)`` weights, or none at all for 1 each.
        probability: whether the loss is the log loss, rather than the squared error.
        n_trees: ``(m,)`` trees of each candidate, fewer where no leaf can be cut any more.
        rates: ``(m,)`` learning rates.
        n_leaves: ``(m,)`` greatest number of leaves of a tree.
        least: ``(m,)`` least number of rows in a leaf.
        min_gain: ``(m,)`` least gain of a cut.

    Returns:
        ``(m, k)`` means or probabilities.
    """
    n, n_held = len(y), len(table.held)
    size = table.counts.size
    most = n_leaves.max()
    leaves = _no_leaves(most, table.counts.shape[1])
    space = Space(
        np.empty(n, np.uint32),
        np.empty(n_held, np.uint32),
        np.empty(max(n, n_held), np.uint32),
        np.empty((most, 2 * size)),
        np.empty(0 if probability else 2 * size),
        np.empty((4, (len(table.counts) + 1) * LANES)),
    )
    start = _start(y, w, probability)
    g, h = np.empty(n), np.ones(n)
    if len(w):
        h[:] = w
    if not probability:
        add_rows(table.seen, np.arange(n, dtype=np.uint32), np.zeros(n), h, space.root)
    score = np.empty(n)
    out = np.full((len(n_trees), n_held), start)
    for c in range(len(n_trees)):
        score[:] = start
        rule = Rule(n_leaves[c], least[c], min_gain[c])
        usable = _usable(table.counts, least[c])
        for _ in range(n_trees[c]):
            _gradients(score, y, w, probability, g, h)
            count = _grow(leaves, usable, table, space, g, h, rule)
            if count == 1:
                break
            for j in range(count):
                value = leaves.value[j] * rates[c]
                for row in space.seen[leaves.begin[j, 0] : leaves.end[j, 0]]:
                    score[row] += value
                for row in space.held[leaves.begin[j, 1] : leaves.end[j, 1]]:
                    out[c, row] += value
        if probability:
            for i in range(n_held):
                out[c, i] = 1.0 / (1.0 + math.exp(-out[c, i]))
    return out
