r"""Pseudo-outcome regression (POR): pseudo-outcomes, weights, the weighted fit, the R-loss.

With treatment ``A`` in {0, 1}, outcome ``Y`` and nuisances ``pi(x) = P(A=1|x)``,
``kappa = 1 - pi``, ``m(x) = E[Y|x]``, ``mu_a(x) = E[Y|x, A=a]``, each unit gets a pseudo-outcome
``g`` whose conditional mean at the true nuisances is the effect ``tau = mu_1 - mu_0``, and a weight
``w``. The effect is then estimated by ``argmin_t sum_i w_i (g_i - t(X_i))^2``. Nuisances are
constants here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retable.papers.r_learner.learners.base import (
    Array,
    Fitted,
    Learner,
    RLossLearner,
    Role,
    Task,
)
from retable.papers.r_learner.rows import Pseudo, Weight

CLIP = 0.01
"""Estimated propensities are kept in ``[CLIP, 1 - CLIP]``."""


@dataclass(frozen=True, eq=False)
class Nuisances:
    """Estimates for each unit, all ``(n,)``, from models that have not seen the unit.

    ``pi`` and ``kappa`` estimate P(A=1|X) and P(A=0|X), both clipped. They add up to 1 unless they
    come from two models, as in cross-fitting of order 4.
    """

    pi: Array
    kappa: Array
    m: Array
    mu1: Array
    mu0: Array
    mu1_separate: Array
    mu0_separate: Array


def clip(pi: Array, bound: float = CLIP) -> Array:
    """``pi`` kept in ``[bound, 1 - bound]``; to be done before ``1 - pi`` is taken.

    Raises:
        ValueError: where ``bound`` is not in [0, 1/2), or a propensity is not finite.
    """
    if not 0 <= bound < 0.5:
        raise ValueError(f"clip: {bound} is not in [0, 1/2)")
    if not np.isfinite(pi).all():
        raise ValueError("a propensity is not finite")
    return np.clip(pi, bound, 1 - bound)


def pseudo_u(y: Array, a: Array, pi: Array, m: Array) -> Array:
    """``(Y - m) / (A - pi)``, all ``(n,)``."""
    return (y - m) / (a - pi)


def pseudo_dr(y: Array, a: Array, pi: Array, kappa: Array, mu1: Array, mu0: Array) -> Array:
    """``A/pi (Y - mu1) - (1-A)/kappa (Y - mu0) + mu1 - mu0``, all ``(n,)``."""
    return a / pi * (y - mu1) - (1 - a) / kappa * (y - mu0) + mu1 - mu0


def pseudo_cov(y: Array, a: Array, pi: Array, kappa: Array, m: Array) -> Array:
    """``(Y - m) (A - pi) / (pi kappa)``, all ``(n,)``."""
    return (y - m) * (a - pi) / (pi * kappa)


def pseudo_outcome(kind: Pseudo, y: Array, a: Array, nuisances: Nuisances) -> Array:
    """The pseudo-outcome of that name, ``(n,)``."""
    n = nuisances
    match kind:
        case Pseudo.U:
            return pseudo_u(y, a, n.pi, n.m)
        case Pseudo.COV:
            return pseudo_cov(y, a, n.pi, n.kappa, n.m)
        case Pseudo.DR:
            return pseudo_dr(y, a, n.pi, n.kappa, n.mu1, n.mu0)
        case Pseudo.DR_SEPARATE:
            return pseudo_dr(y, a, n.pi, n.kappa, n.mu1_separate, n.mu0_separate)


def weight(kind: Weight, a: Array, pi: Array, kappa: Array) -> Array:
    """The weight of that name, ``(n,)``, as it is: not divided by anything.

    ``one`` 1; ``u_ax`` ``(A - pi)^2``; ``u_x`` ``(pi kappa)^2 / (pi^3 + kappa^3)``; ``dr_x``
    ``pi kappa``; ``dr_ax`` ``A pi^2 + (1-A) kappa^2``; ``dr_ax_adhoc`` ``A pi + (1-A) kappa``.
    """
    match kind:
        case Weight.ONE:
            return np.ones_like(pi)
        case Weight.U_AX:
            return (a - pi) ** 2
        case Weight.U_X:
            return (pi * kappa) ** 2 / (pi**3 + kappa**3)
        case Weight.DR_X:
            return pi * kappa
        case Weight.DR_AX:
            return a * pi**2 + (1 - a) * kappa**2
        case Weight.DR_AX_ADHOC:
            return a * pi + (1 - a) * kappa


def r_loss(y: Array, a: Array, pi: Array, m: Array, t: Array) -> Array:
    """``[(Y - m) - (A - pi) t]^2`` of each unit, ``(n,)``: the loss of R-learning.

    It equals ``(A - pi)^2 (U - t)^2`` without the division, so it is stable where ``A - pi`` is
    nearly 0.
    """
    return (y - m - (a - pi) * t) ** 2


def fit_weighted_por(
    x: Array,
    g: Array,
    w: Array,
    learner: Learner,
    rng: np.random.Generator,
    groups: npt.NDArray[np.int64] | None = None,
) -> Fitted:
    """Tune and fit ``argmin_t sum_i w_i (g_i - t(x_i))^2``, with the weights in both.

    Args:
        x: ``(n, p)`` covariates, without the treatment.
        g: ``(n,)`` pseudo-outcomes.
        w: ``(n,)`` weights.
        learner: chooses its hyperparameters for this fit.
        rng: for the learner's tuning.
        groups: ``(n,)`` unit of each row, where a unit has several.

    Returns:
        The estimated effect.

    Raises:
        ValueError: where lengths differ, a number is not finite, or a weight is negative.
    """
    if not len(x) == len(g) == len(w):
        raise ValueError(f"{len(x)} rows of x, {len(g)} pseudo-outcomes, {len(w)} weights")
    if not (np.isfinite(g).all() and np.isfinite(w).all()):
        raise ValueError("a pseudo-outcome or a weight is not finite")
    if (w < 0).any() or not (w > 0).any():
        raise ValueError("weights must not be negative, nor all zero")
    task, role = Task.REGRESSION, Role.EFFECT
    setting = learner.tune(x, g, task=task, role=role, rng=rng, weights=w, groups=groups)
    return learner.fit(setting, x, g, task=task, weights=w)


def fit_r_learner(
    x: Array,
    y: Array,
    a: Array,
    pi: Array,
    m: Array,
    learner: Learner,
    rng: np.random.Generator,
    groups: npt.NDArray[np.int64] | None = None,
) -> Fitted:
    """Tune and fit ``argmin_t sum_i [(Y_i - m_i) - (A_i - pi_i) t(x_i)]^2``: R-learning.

    A learner that can is given the R-loss itself; any other, the regression of U with weights
    ``(A - pi)^2``, which has the same minimiser.

    Args:
        x: ``(n, p)`` covariates, without the treatment.
        y: ``(n,)`` outcomes.
        a: ``(n,)`` treatments.
        pi: ``(n,)`` propensities, clipped, so that ``A - pi`` is never 0.
        m: ``(n,)`` means of the outcome.
        learner: chooses its hyperparameters for this fit.
        rng: for the learner's tuning.
        groups: ``(n,)`` unit of each row, where a unit has several.

    Raises:
        ValueError: as :func:`fit_weighted_por`.
    """
    if not isinstance(learner, RLossLearner):
        g, w = pseudo_u(y, a, pi, m), weight(Weight.U_AX, a, pi, 1 - pi)
        return fit_weighted_por(x, g, w, learner, rng, groups)
    residual, contrast = y - m, a - pi
    if not (np.isfinite(residual).all() and np.isfinite(contrast).all()):
        raise ValueError("an outcome or a nuisance is not finite")
    if not contrast.any():
        raise ValueError("every treatment is its propensity: there is nothing to learn from")
    return learner.fit_r_loss(x, residual, contrast, rng=rng, groups=groups)


@dataclass(frozen=True, eq=False)
class Difference:
    """The T-learner's effect: the difference of two models of the outcome."""

    treated: Fitted
    control: Fitted

    def predict(self, x: Array) -> Array:
        """``mu_1(x) - mu_0(x)``, ``(n,)``."""
        return self.treated.predict(x) - self.control.predict(x)
