"""Bins of the covariates, and the table of which row is in which.

A covariate is cut at midpoints between neighbouring values, so that a bin has at least three rows
and a covariate at most 255 bins; zero has a bin of its own. These are LightGBM's defaults.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import Array
from retable.papers.r_learner.learners.boosting.kernel import inner, kernel

Index = npt.NDArray[np.int64]
Entries = npt.NDArray[np.uint32]

LANES = 4
"""Covariates to a block of a histogram."""
PAIR = 2 * LANES
"""Numbers to a bin of a block: sums of gradients, then of curvatures."""
_MAX_BINS = 255
_MIN_ROWS = 3
_ZERO = 1e-35
_SPARSE = 0.7


class Table(NamedTuple):
    """Rows by bin; bins are numbered from the highest value down, as histograms are read.

    The entry of a bin in a histogram is that of its sum of gradients.

    Attributes:
        seen: ``(n, p)`` a row's entry in a histogram.
        held: ``(k, p)`` the same of the rows held out.
        counts: ``(bins, 4 * blocks)`` rows of ``seen``; ``bins`` is the greatest number of a
            covariate.
        rest: ``(4 * blocks,)`` entry that is found as the total less all others, -1 for none.
    """

    seen: Entries
    held: Entries
    counts: Index
    rest: Index


@kernel
def _cut_side(values: Array, counts: Index, most: int, cuts: Array, n_cuts: int) -> int:
    """Cut the values of one sign into at most ``most`` bins.

    With no more distinct values than bins, a bin is closed as soon as it has three rows. With more,
    it is closed at the mean size of those still to come, and a value that alone fills a bin of mean
    size gets its own.

    Args:
        values: ``(m,)``, ascending and distinct.
        counts: ``(m,)`` rows with each.
        most: greatest number of bins.
        cuts: the ends of bins are written from ``n_cuts`` on.
        n_cuts: number of ends so far.

    Returns:
        The new number of ends.
    """
    m = len(values)
    many = m > most
    big = np.zeros(m, np.bool_)
    rows, bins, size = counts.sum(), most, float(_MIN_ROWS)
    if many:
        bins = max(1, min(most, rows // _MIN_ROWS))
        big[:] = counts >= rows / bins
        rows -= counts[big].sum()
        bins_left = bins - big.sum()
        size = rows / bins_left
    else:
        bins_left = bins
    last = n_cuts + bins - 1
    inside = 0
    for i in range(m - 1):
        inside += counts[i]
        if not big[i]:
            rows -= counts[i]
        if inside >= size or big[i] or (big[i + 1] and inside >= max(1.0, size / 2)):
            cuts[n_cuts] = math.nextafter((values[i] + values[i + 1]) / 2, np.inf)
            n_cuts += 1
            if many and n_cuts >= last:
                break
            inside = 0
            if many and not big[i]:
                bins_left -= 1
                size = rows / bins_left
    return n_cuts


@kernel
def upper_bounds(column: Array) -> Array:
    """Upper ends of the bins of a column ``(n,)``, ascending; they belong to their bin."""
    ordered = np.sort(column)
    begins = np.ones(len(ordered), np.bool_)
    begins[1:] = ordered[1:] > ordered[:-1]
    values = ordered[begins]
    counts = np.diff(np.append(np.flatnonzero(begins), len(ordered)))
    below = np.searchsorted(values, -_ZERO)
    above = np.searchsorted(values, _ZERO, side="right")
    rows_below, rows_above = counts[:below].sum(), counts[above:].sum()
    cuts = np.empty(_MAX_BINS + 1)
    n_cuts = 0
    if rows_below:
        most = max(1, int(rows_below / (rows_below + rows_above) * (_MAX_BINS - 1)))
        n_cuts = _cut_side(values[:below], counts[:below], most, cuts, 0)
        cuts[n_cuts] = -_ZERO
        n_cuts += 1
    if rows_above:
        cuts[n_cuts] = _ZERO
        most = _MAX_BINS - 1 - n_cuts
        n_cuts = _cut_side(values[above:], counts[above:], most, cuts, n_cuts + 1)
    cuts[n_cuts] = np.inf
    return cuts[: n_cuts + 1]


@inner
def _entry(bin_: int, f: int, bins: int) -> int:
    """Entry of a covariate's bin in a histogram."""
    return (f // LANES * bins + bin_) * PAIR + f % LANES


@kernel
def tabulate(seen: Array, held: Array) -> Table:
    """Bins of the rows ``seen (n, p)``, and which of them the rows ``held (k, p)`` fall into."""
    n, p = seen.shape
    width = -(-p // LANES) * LANES
    entries = np.empty((n, p), np.uint32)
    entries_held = np.empty((len(held), p), np.uint32)
    counts = np.zeros((_MAX_BINS, width), np.int64)
    rest = np.full(width, -1)
    most = 1
    for f in range(p):
        column = np.ascontiguousarray(seen[:, f])
        bounds = upper_bounds(column)
        top = len(bounds) - 1
        most = max(most, top + 1)
        entries[:, f] = top - np.searchsorted(bounds, column)
        entries_held[:, f] = top - np.searchsorted(bounds, np.ascontiguousarray(held[:, f]))
        for bin_ in entries[:, f]:
            counts[bin_, f] += 1
        # The bin of zero, or one that holds most rows; the lowest bin is not needed for any cut.
        zero = top - np.searchsorted(bounds, 0.0)
        fullest = np.argmax(counts[: top + 1, f])
        if counts[fullest, f] >= _SPARSE * n:
            zero = fullest
        if zero < top:
            rest[f] = zero
    for f in range(p):
        for i in range(n):
            entries[i, f] = _entry(entries[i, f], f, most)
        for i in range(len(held)):
            entries_held[i, f] = _entry(entries_held[i, f], f, most)
        if rest[f] >= 0:
            rest[f] = _entry(rest[f], f, most)
    return Table(entries, entries_held, counts[:most], rest)
