"""The score-function step: decisions drawn from the model, weighted by their subdominance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from retable.papers.superhuman_fairness.losses import Array, Index, by_decision, from_counts
from retable.papers.superhuman_fairness.units import Units

Center = Literal["as_coded", "correct"]
Baseline = Literal["as_coded", "none"]


def probability(x: Array, theta: Array, bias: float) -> Array:
    """``sigmoid(x theta + b)``, ``(n,)``, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * (x @ theta + bias)))


@dataclass(frozen=True, eq=False)
class Sample:
    """One drawn decision vector for each reference.

    Attributes:
        losses: ``(N, 4)`` on the items that the reference decides on, with true labels and groups.
        total: ``(N, d)`` sum of ``yhat_i x_i`` over those items.
    """

    losses: Array
    total: Array


class Sampler:
    """Draws and measures one decision vector per reference, all in one go.

    Args:
        units: the training half, n items with d inputs.
        index: ``(N, m)`` items that each reference decides on.

    Raises:
        ValueError: where an index has an item twice, or none of that number.
    """

    def __init__(self, units: Units, index: Index) -> None:
        n = len(units)
        if index.ndim != 2 or not index.size or index.min() < 0 or index.max() >= n:
            raise ValueError(f"index {index.shape} does not name items 0 to {n - 1}")
        self.size = index.shape[1]
        self.chosen = np.zeros((len(index), n), dtype=np.bool_)
        np.put_along_axis(self.chosen, index, values=True, axis=1)
        if not (self.chosen.sum(axis=1) == self.size).all():
            raise ValueError("index has an item twice in a row")
        cell = 2 * units.a.astype(np.int64) + units.y
        cells = (cell[:, None] == np.arange(4)).astype(np.float64)
        # Sums of inputs and counts of cells come from the same product.
        self._columns = np.hstack([units.x, cells])
        self._items = self.chosen.astype(np.float64) @ cells

    @property
    def n(self) -> int:
        """Items of the training half."""
        return self.chosen.shape[1]

    def draw(self, probability: Array, rng: np.random.Generator) -> Sample:
        """Draw ``yhat_i ~ Bernoulli(p_i)`` for each reference on its own items.

        Args:
            probability: ``(n,)``.
            rng: it is advanced by N n numbers.
        """
        uniform = rng.random(self.chosen.shape, dtype=np.float32)
        return self.measure(uniform < probability.astype(np.float32))

    def measure(self, decisions: npt.NDArray[np.bool_]) -> Sample:
        """Losses and sums of decisions ``(N, n)``; those on other items are not looked at."""
        product = (decisions & self.chosen).astype(np.float64) @ self._columns
        losses = from_counts(by_decision(product[:, -4:], self._items))
        return Sample(losses, product[:, :-4])


def baseline(parts: Array) -> Array:
    """The constant that the authors' code subtracts from each entry of ``parts``, ``(N,)``.

    For reference j it is the mean over all N K entries of the matrix that the loop has filled up to
    j, what is not yet filled being 0 and the constants already subtracted. With
    ``R_j = sum_{i<j} (sum_k s_ik - K c_i)`` and ``c_j = R_j / (N K)`` this is the recursion
    ``R_{j+1} = (1 - 1/N) R_j + sum_k s_jk``.

    Args:
        parts: subdominances ``(N, K)``.
    """
    n, k = parts.shape
    power = np.subtract.outer(np.arange(n), np.arange(n)) - 1
    decay = np.where(power >= 0, (1 - 1 / n) ** np.maximum(power, 0), 0.0)
    return decay @ parts.sum(axis=1) / (n * k)


def gradient(
    parts: Array,
    total: Array,
    size: int,
    n: int,
    *,
    center: Center = "as_coded",
    constant: Baseline = "as_coded",
) -> Array:
    """``sum_j S_j (Phi_j - Phibar)``, ``(d,)``: N times the score-function gradient.

    ``Phi_j`` is the mean of ``yhat_i x_i`` over the items of reference j. ``correct`` takes for
    ``Phibar`` the mean of ``Phi_j`` over the references; ``as_coded`` divides by the number of
    items of the whole half there, which leaves a drift of half the mean of Phi.

    Args:
        parts: subdominances ``(N, K)``.
        total: ``(N, d)`` of :class:`Sample`.
        size: items that a reference decides on.
        n: items of the training half.
        center: as above.
        constant: ``as_coded`` subtracts :func:`baseline` from every part first.
    """
    weight = parts.sum(axis=1)
    if constant == "as_coded":
        weight = weight - parts.shape[1] * baseline(parts)
    mean = total.mean(axis=0) / (size if center == "correct" else n)
    return weight @ (total / size - mean)
