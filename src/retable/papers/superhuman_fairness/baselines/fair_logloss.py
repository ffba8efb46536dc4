"""Robust log loss under fairness constraints (Rezaei et al. 2020, Fairness for robust log loss).

With ``z = theta' x + c`` and ``p = sigmoid(z)``, a constraint compares the mean prediction of two
cells of items, such as the two groups. A multiplier lambda caps the predictions of the cell with
the larger mean and lifts those of the other, until the means agree. With ``s = 1 / |lambda|`` and
the cells' shares ``m`` of all items, the predictions are

    ``min(p, m s)`` in the cell with the larger mean, ``max(p, 1 - m s)`` in the other,

where lambda is positive if cell 1 is the one with the larger mean, and 0 if the means agree anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from retable.papers.superhuman_fairness.losses import Array
from retable.papers.superhuman_fairness.units import Units

Constraint = Literal["none", "dp", "eqopp", "eqodds"]
Mask = npt.NDArray[np.bool_]

C = 0.005
"""Weight of the L2 penalty, intercept included."""

TOLERANCE = 1e-6
"""Of the loss, relative, and of the gradient's largest entry."""


@dataclass(frozen=True)
class Pair:
    """Two cells whose mean predictions are to agree.

    Attributes:
        label: label of the items in both cells; ``None`` for all items.
        share: share of the training items in cell 0 and in cell 1.
        multiplier: lambda; 0 where nothing is truncated.
    """

    label: Literal[0, 1] | None
    share: tuple[float, float] = (0.0, 0.0)
    multiplier: float = 0.0

    def cells(self, y: npt.NDArray[Any], a: npt.NDArray[Any]) -> tuple[Mask, Mask]:
        """Masks ``(n,)`` of cell 0 and cell 1."""
        within = np.ones(len(y), dtype=np.bool_) if self.label is None else y == self.label
        return within & (a == 0), within & (a == 1)

    def limits(self) -> tuple[int, float, float]:
        """Number of the capped cell, its cap, and the floor of the other cell."""
        capped = 1 if self.multiplier > 0 else 0
        s = 1.0 / abs(self.multiplier)
        return capped, self.share[capped] * s, 1.0 - self.share[1 - capped] * s

    def fitted(self, p: Array, cell0: Mask, cell1: Mask, vacuous: float) -> Pair:
        """The pair with shares and lambda for predictions ``p (n,)``."""
        share = (float(np.mean(cell0)), float(np.mean(cell1)))
        found = multiplier(p[cell0], p[cell1], len(p), vacuous)
        return replace(self, share=share, multiplier=found)


def pairs(constraint: Constraint) -> tuple[Pair, ...]:
    """Pairs of cells that a constraint compares: groups, or groups among one label."""
    match constraint:
        case "none":
            return ()
        case "dp":
            return (Pair(None),)
        case "eqopp":
            return (Pair(1),)
        case "eqodds":
            return (Pair(1), Pair(0))


def multiplier(p0: Array, p1: Array, n: int, vacuous: float = 0.0) -> float:
    """The lambda for which the truncated means of two cells agree.

    With u the predictions ``p`` of the capped cell and ``1 - p`` of the lifted one, each divided by
    its cell's share, the means agree where ``sum_i min(u_i, s) = n``. That is piecewise linear in
    s, so one sort finds it.

    Args:
        p0: predictions in cell 0.
        p1: predictions in cell 1.
        n: number of all training items.
        vacuous: what to return where cell 1 is empty, its negative where cell 0 is.

    Returns:
        lambda, its sign that of ``mean(p1) - mean(p0)``; 0 where the means agree.
    """
    if not len(p0) or not len(p1):
        return vacuous if len(p0) else -vacuous
    gap = float(np.mean(p1) - np.mean(p0))
    if abs(gap) <= 1e-12:
        return 0.0
    capped, lifted = (p1, p0) if gap > 0 else (p0, p1)
    u = np.sort(np.concatenate([capped * (n / len(capped)), (1.0 - lifted) * (n / len(lifted))]))
    below = np.concatenate([[0.0], np.cumsum(u)[:-1]])
    left = len(u) - np.arange(len(u))  # values not below u_k, itself included
    k = min(int(np.searchsorted(below + left * u, n)), len(u) - 1)
    return float(np.sign(gap) * left[k] / (n - below[k]))


def objective(
    theta: Array,
    x: Array,
    y: Array,
    cells: list[tuple[Mask, Mask]],
    weight: float,
    vacuous: float = 0.0,
) -> tuple[float, Array]:
    """Penalised mean loss and its gradient at ``theta``.

    Untruncated items have the log loss. Capped ones have ``z (1 - y) - log(cap)``, lifted ones
    ``-z y - log(1 - floor)``: the log loss of the truncated prediction against the worst case. The
    logarithms are left out for an infinite lambda. The gradient holds lambda fixed, as the authors'
    does, so it is not quite that of the value.

    Args:
        theta: ``(d,)`` weights, the intercept last.
        x: ``(n, d)`` features, the last one constant 1.
        y: ``(n,)`` labels.
        cells: masks of cell 0 and cell 1, of each constraint.
        weight: of the penalty ``weight / 2 |theta|^2``.
        vacuous: as for :func:`multiplier`.
    """
    z = x @ theta
    p = sigmoid(z)
    loss = np.logaddexp(0.0, z) - z * y
    slope = p - y
    for cell0, cell1 in cells:
        fitted = Pair(None).fitted(p, cell0, cell1, vacuous)
        if fitted.multiplier == 0:
            continue
        capped, cap, floor = fitted.limits()
        high, low = (cell1, cell0) if capped else (cell0, cell1)
        high, low = high & (p > cap), low & (p < floor)
        finite = np.isfinite(fitted.multiplier)
        loss[high] = z[high] * (1 - y[high]) - (np.log(cap) if finite else 0.0)
        slope[high] = 1 - y[high]
        loss[low] = -z[low] * y[low] - (np.log1p(-floor) if finite else 0.0)
        slope[low] = -y[low]
    value = float(np.mean(loss) + 0.5 * weight * theta @ theta)
    return value, x.T @ slope / len(y) + weight * theta


@dataclass(frozen=True, eq=False)
class FairLogLoss:
    """A fitted predictor: ``theta (d + 1,)``, the intercept last, and the constraint's pairs."""

    theta: Array
    pairs: tuple[Pair, ...]

    def given_label(self, x: Array, a: npt.NDArray[Any], label: int) -> tuple[Array, Array]:
        """Prediction and the adversary's probability ``(n,)`` if all labels were ``label``."""
        p = sigmoid(with_constant(x) @ self.theta)
        predicted, adversary = p.copy(), p.copy()
        for pair in self.pairs:
            if pair.multiplier == 0:
                continue
            capped, cap, floor = pair.limits()
            cells = pair.cells(np.full(len(p), label), a)
            high, low = cells[capped], cells[1 - capped]
            predicted[high] = np.minimum(p[high], cap)
            predicted[low] = np.maximum(p[low], floor)
            # p + p (1 - p) / cap up to the cap, where it is 1; the mirror image down to the floor.
            up = np.minimum(p[high] / cap, 1.0) if cap else np.ones(int(high.sum()))
            adversary[high] = np.where(up < 1, p[high] + up * (1 - p[high]), 1.0)
            room = 1 - floor
            down = np.minimum((1 - p[low]) / room, 1.0) if room else np.ones(int(low.sum()))
            adversary[low] = np.where(down < 1, p[low] - down * p[low], 0.0)
        return predicted, adversary

    def probability(self, x: Array, a: npt.NDArray[Any]) -> Array:
        """``P(yhat = 1)`` of each item, ``(n,)``.

        A constraint within labels needs the label, which is unknown: the prediction is the fixed
        point of predicting for the label that it makes the adversary take.
        """
        if all(pair.label is None for pair in self.pairs):
            return self.given_label(x, a, 1)[0]
        predicted1, adversary1 = self.given_label(x, a, 1)
        predicted0, adversary0 = self.given_label(x, a, 0)
        weight = 1 - adversary1 + adversary0
        numerator = predicted1 * adversary0 + predicted0 * (1 - adversary1)
        return np.divide(numerator, weight, out=np.full_like(weight, np.nan), where=weight != 0)

    def decide(self, x: Array, a: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
        """Rounded predictions ``(n,)``, 1 where the fixed point does not exist."""
        p = self.probability(x, a)
        return np.where(np.isnan(p), 1, np.round(p)).astype(np.int8)

    def violation(self, units: Units) -> float:
        """Expected disparity: the sum, over the pairs, of the gap between the cells' means.

        For equalised odds that is the sum of both gaps, where the measure has the larger one.
        """
        p = self.probability(units.x, units.a)
        total = 0.0
        for pair in self.pairs:
            cell0, cell1 = pair.cells(units.y, units.a)
            if cell0.any() and cell1.any():
                total += abs(float(np.mean(p[cell1]) - np.mean(p[cell0])))
        return total

    def expected_error(self, units: Units) -> float:
        """``mean(y (1 - P) + (1 - y) P)``: the error of drawing each decision."""
        p = self.probability(units.x, units.a)
        return float(np.mean(np.where(units.y == 1, 1 - p, p)))


def fit(train: Units, constraint: Constraint, seed: int, *, weight: float = C) -> FairLogLoss:
    """Minimise the robust log loss; see :func:`fit_arrays`."""
    return fit_arrays(train.x, train.y, train.a, constraint, seed, weight=weight)


def fit_arrays(
    x: Array,
    y: npt.NDArray[Any],
    a: npt.NDArray[Any],
    constraint: Constraint,
    seed: int,
    *,
    weight: float = C,
    vacuous: float = 0.0,
) -> FairLogLoss:
    """Minimise the robust log loss by L-BFGS-B from a random start in [-0.5, 0.5].

    Args:
        x: ``(n, d)`` features; a constant is added.
        y: ``(n,)`` labels.
        a: ``(n,)`` groups; items of another value than 0 and 1 are in no cell.
        constraint: which cells' means are to agree; ``none`` is logistic regression.
        seed: of the start.
        weight: of the penalty, intercept included.
        vacuous: lambda where cell 1 is empty, as for :func:`multiplier`; 0 drops the constraint.
    """
    from scipy.optimize import minimize

    full = with_constant(x)
    chosen = pairs(constraint)
    cells = [pair.cells(y, a) for pair in chosen]
    found = minimize(
        objective,
        start(full.shape[1], seed),
        args=(full, y.astype(np.float64), cells, weight, vacuous),
        method="L-BFGS-B",
        jac=True,
        tol=TOLERANCE,
        # An infinite lambda makes the authors' loss NaN, so that only the gradient ends their fit.
        options={"maxiter": 10_000, "ftol": TOLERANCE if np.isfinite(vacuous) else 0.0},
    )
    theta = np.asarray(found.x, dtype=np.float64)
    p = sigmoid(full @ theta)
    fitted = [pair.fitted(p, *both, vacuous) for pair, both in zip(chosen, cells, strict=True)]
    return FairLogLoss(theta, tuple(fitted))


def start(size: int, seed: int) -> Array:
    """The random start, uniform in [-0.5, 0.5]."""
    return np.random.default_rng(seed).random(size) - 0.5


def with_constant(x: Array) -> Array:
    """Features with a last column of ones."""
    return np.column_stack([x, np.ones(len(x))])


def sigmoid(z: Array) -> Array:
    """``1 / (1 + exp(-z))``, without overflow."""
    from scipy.special import expit

    return expit(z)
