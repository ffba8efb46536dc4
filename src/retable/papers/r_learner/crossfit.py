"""Cross-fitting: nuisances of each unit from models that have not seen its outcome or treatment.

Hyperparameters are chosen once, on all units, before the folds are made ("approximate"
cross-fitting), so a unit may have a say in them, but in no fit that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import Array, Fitted, Learner, Role, Task
from retable.papers.r_learner.por import CLIP, Difference, Nuisances, clip
from retable.training.seeds import derive_seed

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Units:
    """``x (n, p)``, treatment ``a (n,)`` in {0, 1}, outcome ``y (n,)``."""

    x: Array
    a: Array
    y: Array

    def __post_init__(self) -> None:
        if not (self.x.ndim == 2 and self.a.shape == self.y.shape == (len(self.x),)):
            raise ValueError(f"shapes {self.x.shape}, {self.a.shape}, {self.y.shape}")
        if not np.isin(self.a, (0.0, 1.0)).all():
            raise ValueError("a treatment is neither 0 nor 1")

    def __len__(self) -> int:
        return len(self.x)

    def at(self, chosen: npt.NDArray[Any]) -> Units:
        """The chosen units, by index or mask."""
        return Units(self.x[chosen], self.a[chosen], self.y[chosen])

    def arm(self, treated: bool) -> Units:
        """The treated units, or the controls.

        Raises:
            ValueError: where there are none.
        """
        chosen = self.a == float(treated)
        if not chosen.any():
            raise ValueError(f"no {'treated' if treated else 'control'} unit to fit a model on")
        return self.at(chosen)


@dataclass(frozen=True)
class Settings:
    """Tuned hyperparameters of each nuisance model; ``mu`` is the single model of (A, X)."""

    pi: Any
    m: Any
    mu: Any
    mu1: Any
    mu0: Any


def with_treatment(x: Array, a: Array | float) -> Array:
    """Inputs of the single outcome model: the covariates and a 0/1 column, ``(n, p + 1)``."""
    return np.column_stack([x, np.broadcast_to(np.asarray(a, dtype=np.float64), (len(x),))])


def tune_nuisances(units: Units, learner: Learner, seed: int) -> Settings:
    """Choose the hyperparameters of all nuisance models on all units; arms' models on their arm."""

    def tune(name: str, x: Array, y: Array, task: Task = Task.REGRESSION) -> Any:
        rng = np.random.default_rng(derive_seed(seed, "tune", name))
        return learner.tune(x, y, task=task, role=Role.NUISANCE, rng=rng)

    treated, control = units.arm(treated=True), units.arm(treated=False)
    return Settings(
        pi=tune("pi", units.x, units.a, Task.PROBABILITY),
        m=tune("m", units.x, units.y),
        mu=tune("mu", with_treatment(units.x, units.a), units.y),
        mu1=tune("mu1", treated.x, treated.y),
        mu0=tune("mu0", control.x, control.y),
    )


def t_learner(units: Units, learner: Learner, settings: Settings) -> Difference:
    """``mu_1 - mu_0``, two models fitted on all treated and all controls, without cross-fitting."""
    return Difference(*(_fit_arm(units, learner, settings, treated) for treated in (True, False)))


def _fit_arm(units: Units, learner: Learner, settings: Settings, treated: bool) -> Fitted:
    arm = units.arm(treated)
    setting = settings.mu1 if treated else settings.mu0
    return learner.fit(setting, arm.x, arm.y, task=Task.REGRESSION)


def fit_predict(
    learner: Learner, settings: Settings, seen: Units, x: Array, bound: float = CLIP
) -> Nuisances:
    """Fit all nuisances on the units ``seen`` and predict at ``x``, ``(k, p)``."""
    pi = learner.fit(settings.pi, seen.x, seen.a, task=Task.PROBABILITY).predict(x)
    m = learner.fit(settings.m, seen.x, seen.y, task=Task.REGRESSION).predict(x)
    both = learner.fit(settings.mu, with_treatment(seen.x, seen.a), seen.y, task=Task.REGRESSION)
    clipped = clip(pi, bound)
    return Nuisances(
        pi=clipped,
        kappa=1 - clipped,
        m=m,
        mu1=both.predict(with_treatment(x, 1.0)),
        mu0=both.predict(with_treatment(x, 0.0)),
        mu1_separate=_fit_arm(seen, learner, settings, treated=True).predict(x),
        mu0_separate=_fit_arm(seen, learner, settings, treated=False).predict(x),
    )


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Rows of the effect's regression.

    Attributes:
        unit: ``(r,)`` unit of each row; ``r`` is n, 2n or 6n for order 2, 3 or 4.
        nuisances: estimates, ``(r,)`` each.
    """

    unit: Index
    nuisances: Nuisances


def assign_folds(n: int, folds: int, rng: np.random.Generator) -> Index:
    """Fold of each unit, ``(n,)``: random, sizes equal to within one.

    Raises:
        ValueError: where there are fewer than two folds, or fewer units than folds.
    """
    if not 2 <= folds <= n:
        raise ValueError(f"{folds} folds of {n} units")
    return rng.permutation(np.arange(n, dtype=np.int64) % folds)


def cross_fit(
    units: Units,
    learner: Learner,
    settings: Settings,
    fold: Index,
    *,
    order: int = 2,
    bound: float = CLIP,
) -> CrossFit:
    """Nuisances of every unit from the folds that it is not in.

    Order 2: all nuisances of a unit come from one model each, fitted on all other folds. Orders 3
    and 4 turn the roles round: each model is fitted on one fold and predicts the others. Order 3
    has three folds and takes propensity and outcomes from two different ones, two rows per unit;
    order 4 has four folds and takes pi, kappa and outcomes from three different ones, six rows.

    Args:
        units: the training units.
        learner: fits the models.
        settings: of :func:`tune_nuisances`.
        fold: ``(n,)`` of :func:`assign_folds`.
        order: 2, 3 or 4.
        bound: propensities are clipped to ``[bound, 1 - bound]``.

    Raises:
        ValueError: for another order, or one that does not go with the number of folds.
    """
    count = int(fold.max()) + 1
    if len(fold) != len(units):
        raise ValueError(f"{len(fold)} folds for {len(units)} units")
    if order not in (2, 3, 4):
        raise ValueError(f"cross-fitting of order {order}: there are 2, 3 and 4")
    if order == 2:
        parts = [np.flatnonzero(fold == k) for k in range(count)]
        found = [
            fit_predict(learner, settings, units.at(fold != k), units.x[part], bound)
            for k, part in enumerate(parts)
        ]
        return _in_order(parts, found)
    if count != order:
        raise ValueError(f"cross-fitting of order {order} has {order} folds, not {count}")
    return _inverted(units, learner, settings, fold, count, bound)


def _inverted(
    units: Units, learner: Learner, settings: Settings, fold: Index, count: int, bound: float
) -> CrossFit:
    # Predictions at all units are made and those at a fold's own are never looked at.
    by = [fit_predict(learner, settings, units.at(fold == k), units.x, bound) for k in range(count)]
    parts: list[Index] = []
    found: list[Nuisances] = []
    for own in range(count):
        part = np.flatnonzero(fold == own)
        others = [k for k in range(count) if k != own]
        for sources in permutations(others):
            first, second, last = sources[0], sources[-2], sources[-1]
            # Order 3: sources are (pi, outcomes), so that kappa's source is pi's.
            outcome = by[last]
            parts.append(part)
            found.append(
                Nuisances(
                    pi=by[first].pi[part],
                    kappa=by[second].kappa[part],
                    m=outcome.m[part],
                    mu1=outcome.mu1[part],
                    mu0=outcome.mu0[part],
                    mu1_separate=outcome.mu1_separate[part],
                    mu0_separate=outcome.mu0_separate[part],
                )
            )
    return _in_order(parts, found)


def _in_order(parts: list[Index], found: list[Nuisances]) -> CrossFit:
    """Put the rows of all parts together, sorted by unit."""
    unit = np.concatenate(parts)
    order = np.argsort(unit, kind="stable")
    joined = {
        field.name: np.concatenate([getattr(each, field.name) for each in found])[order]
        for field in fields(Nuisances)
    }
    return CrossFit(unit[order], Nuisances(**joined))
