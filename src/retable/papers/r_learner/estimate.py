"""All rows of one data set: nuisances once, then one regression for each row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.crossfit import (
    CrossFit,
    Units,
    assign_folds,
    cross_fit,
    t_learner,
    tune_nuisances,
)
from retable.papers.r_learner.learners.base import Array, Fitted, Learner
from retable.papers.r_learner.por import (
    CLIP,
    fit_r_learner,
    fit_weighted_por,
    pseudo_outcome,
    weight,
)
from retable.papers.r_learner.rows import R_LEARNER, parse
from retable.training.seeds import derive_seed

NLL_CAP = 100.0


@dataclass(frozen=True, eq=False)
class Estimates:
    """``effects`` by row, each with ``predict``, and the cross-fitted nuisances behind them."""

    effects: dict[str, Fitted]
    cross: CrossFit


def estimate(
    units: Units,
    rows: Iterable[str],
    learner: Learner,
    seed: int,
    *,
    order: int = 2,
    folds: int = 10,
    bound: float = CLIP,
) -> Estimates:
    """Estimate the effect by every row.

    Every choice by chance has a generator of its own, so a row is the same with any others beside
    it.

    Args:
        units: training units.
        rows: names, see :mod:`~retable.papers.r_learner.rows`.
        learner: for nuisances and effects.
        seed: for the folds and for the learner's tuning.
        order: of cross-fitting, 2, 3 or 4.
        folds: of cross-fitting of order 2; the others have as many as their order.
        bound: propensities are clipped to ``[bound, 1 - bound]``.

    Raises:
        ValueError: for an unknown row or order, or units that cannot be split so.
    """
    parsed = [(name, parse(name)) for name in rows]
    settings = tune_nuisances(units, learner, seed)
    count = folds if order == 2 else order
    fold = assign_folds(len(units), count, np.random.default_rng(derive_seed(seed, "folds")))
    cross = cross_fit(units, learner, settings, fold, order=order, bound=bound)
    seen = units.at(cross.unit)
    groups = None if order == 2 else cross.unit
    effects: dict[str, Fitted] = {}
    for name, row in parsed:
        if row is None:
            effects[name] = t_learner(units, learner, settings)
            continue
        n = cross.nuisances
        rng = np.random.default_rng(derive_seed(seed, "effect", name))
        if row == R_LEARNER:
            effects[name] = fit_r_learner(seen.x, seen.y, seen.a, n.pi, n.m, learner, rng, groups)
            continue
        g = pseudo_outcome(row.pseudo, seen.y, seen.a, n)
        w = weight(row.weight, seen.a, n.pi, n.kappa)
        effects[name] = fit_weighted_por(seen.x, g, w, learner, rng, groups)
    return Estimates(effects, cross)


def nuisance_losses(units: Units, cross: CrossFit) -> dict[str, float]:
    """Mean losses of the nuisances on units that they have not seen, by name.

    ``propensity_nll`` in nats, of the clipped propensity and at most 100 per unit; ``outcome_mse``
    of m; ``mu1_single_mse`` and ``mu1_separate_mse`` on the treated, ``mu0_...`` on the controls.
    """
    n = cross.nuisances
    a, y = units.a[cross.unit], units.y[cross.unit]
    treated = a == 1
    with np.errstate(divide="ignore"):
        nll = np.minimum(-np.log(np.where(treated, n.pi, 1 - n.pi)), NLL_CAP)

    def mse(predicted: Array, chosen: npt.NDArray[np.bool_]) -> float:
        return float(np.mean((y[chosen] - predicted[chosen]) ** 2))

    return {
        "propensity_nll": float(nll.mean()),
        "outcome_mse": mse(n.m, np.ones_like(treated)),
        "mu1_single_mse": mse(n.mu1, treated),
        "mu0_single_mse": mse(n.mu0, ~treated),
        "mu1_separate_mse": mse(n.mu1_separate, treated),
        "mu0_separate_mse": mse(n.mu0_separate, ~treated),
    }
