"""The four losses of a decision vector: one error and three gaps between two groups.

Every loss follows from eight counts, items by group, label and decision, so many vectors are
measured at once by one matrix product or one histogram.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

MEASURES = ("error", "dp", "eqodds", "prp")
"""The paper's losses, in the order of every ``(..., 4)`` array."""

EXTRA = ("fpr", "fnr", "ppv", "npv")
"""Gaps of single rates, of which the losses are maxima; ``fnr`` is that of equal opportunity."""


def losses(
    decisions: npt.NDArray[Any],
    y: npt.NDArray[Any],
    a: npt.NDArray[Any],
    index: npt.NDArray[np.integer[Any]] | None = None,
) -> Array:
    """Losses of decision vectors, lower is better.

    ``error`` is the share of wrong decisions. The others compare the groups, with the rate of an
    empty cell taken as 0: ``dp`` the difference of the shares of positive decisions; ``eqodds``
    the larger of the differences of true and of false positive rates; ``prp`` the larger of the
    differences of positive and of negative predictive values.

    Args:
        decisions: ``(n,)`` or ``(N, n)``, 0 or 1; with ``index`` ``(N, m)``, where
            ``decisions[j, i]`` is about item ``index[j, i]``.
        y: ``(n,)`` labels, 0 or 1; or one row for each vector, of the shape of ``decisions``.
        a: groups, as ``y``.
        index: ``(N, m)`` items that each vector decides on; all items where left out.

    Returns:
        ``(N, 4)`` in the order of :data:`MEASURES`; N is 1 for a single vector.

    Raises:
        ValueError: where shapes do not agree or a value is neither 0 nor 1.
    """
    return from_counts(count(decisions, y, a, index))


def count(
    decisions: npt.NDArray[Any],
    y: npt.NDArray[Any],
    a: npt.NDArray[Any],
    index: npt.NDArray[np.integer[Any]] | None = None,
) -> Array:
    """Number of items by group, label and decision, ``(N, 2, 2, 2)``; arguments as of losses."""
    chosen, label, group = (
        _binary(*named) for named in (("decisions", decisions), ("y", y), ("a", a))
    )
    chosen = np.atleast_2d(chosen)
    if index is not None:
        if label.ndim != 1 or group.ndim != 1:
            raise ValueError("y and a have one entry for each item where an index is given")
        label, group = label[index], group[index]
    if label.shape != group.shape or label.shape not in (chosen.shape, chosen.shape[1:]):
        raise ValueError(
            f"decisions {chosen.shape}, y {label.shape}, a {group.shape}: shapes do not agree"
        )
    cell = 2 * group + label
    if cell.ndim == 1:
        onehot = (cell[:, None] == np.arange(4)).astype(np.float64)
        return by_decision(chosen.astype(np.float64) @ onehot, onehot.sum(axis=0))
    offset = 8 * np.arange(len(chosen))[:, None]
    counts = np.bincount((offset + 2 * cell + chosen).ravel(), minlength=8 * len(chosen)).astype(
        np.float64
    )
    return counts.reshape(-1, 2, 2, 2)


def by_decision(positive: Array, total: Array) -> Array:
    """Counts ``(N, 2, 2, 2)`` from positive decisions ``(N, 4)`` and items ``(4,)`` or ``(N, 4)``.

    A cell's number is ``2 a + y``.
    """
    both = np.stack([total - positive, positive], axis=-1)
    return both.reshape(-1, 2, 2, 2)


def from_counts(counts: Array) -> Array:
    """Losses ``(N, 4)`` from counts ``(N, 2, 2, 2)`` by group, label and decision."""
    error = (counts[:, :, 0, 1] + counts[:, :, 1, 0]).sum(axis=1) / counts.sum(axis=(1, 2, 3))
    fpr, fnr, ppv, npv = (gaps(counts)[:, k] for k in range(4))
    by_group = counts.sum(axis=2)
    dp = _gap(by_group[:, :, 1], by_group.sum(axis=2))
    return np.stack([error, dp, np.maximum(fpr, fnr), np.maximum(ppv, npv)], axis=1)


def gaps(counts: Array) -> Array:
    """Differences of the groups' rates, ``(N, 4)`` in the order of :data:`EXTRA`.

    False negative and true positive rates have the same difference, unless a group has no
    positive item; the true positive rate decides then, as in fairlearn's equalised odds.
    """
    by_label, by_decision_ = counts.sum(axis=3), counts.sum(axis=2)
    return np.stack(
        [
            _gap(counts[:, :, 0, 1], by_label[:, :, 0]),
            _gap(counts[:, :, 1, 1], by_label[:, :, 1]),
            _gap(counts[:, :, 1, 1], by_decision_[:, :, 1]),
            _gap(counts[:, :, 0, 0], by_decision_[:, :, 0]),
        ],
        axis=1,
    )


def _gap(part: Array, whole: Array) -> Array:
    """``|r_1 - r_0|`` of the rates ``part / whole`` ``(N, 2)``, 0 where a cell is empty."""
    rate = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return np.abs(rate[:, 1] - rate[:, 0])


def _binary(name: str, values: npt.NDArray[Any]) -> Index:
    array = np.asarray(values)
    if array.dtype != np.bool_ and not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name}: a value is neither 0 nor 1")
    return array.astype(np.int64)
