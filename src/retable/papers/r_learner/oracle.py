r"""Effect of weights on variance alone: true nuisances, a fixed linear basis, nothing to tune.

With noise of constant variance ``s^2`` the pseudo-outcomes have, at the true nuisances,

* ``Var(U | A, X) = s^2 / (A - pi)^2``, ``Var(U | X) = s^2 (pi^3 + kappa^3) / (pi kappa)^2``;
* ``Var(DR | A, X) = s^2 / pi^2`` or ``s^2 / kappa^2``, ``Var(DR | X) = s^2 / (pi kappa)``;
* ``Var(Cov | X) = (s^2 + tau^2) / (pi kappa) - 4 tau^2``.

For ``tau = phi' beta`` weighted least squares estimates ``beta`` with the asymptotic covariance
``M^-1 S M^-1 / n``, ``M = E[w phi phi']`` and ``S = E[w^2 (g - tau)^2 phi phi']``. Where X has
finitely many values both are sums, and so is the ratio of two estimators' errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retable.papers.r_learner.learners.base import Array
from retable.papers.r_learner.learners.linear import weighted_least_squares
from retable.papers.r_learner.por import Nuisances, pseudo_outcome, weight
from retable.papers.r_learner.rows import Pseudo, Row, Weight
from retable.papers.r_learner.setups import Sample

DEPEND_ON_A = frozenset({Weight.U_AX, Weight.DR_AX, Weight.DR_AX_ADHOC})
"""Weights that differ between the treated and the controls of one x."""


@dataclass(frozen=True, eq=False)
class Design:
    """A law of X on finitely many points, all ``(k,)`` but the basis.

    Attributes:
        phi: ``(k, q)`` basis at the points; tau lies in its span.
        pi: propensities, strictly between 0 and 1.
        tau: effects.
        share: probabilities of the points.
        noise: variance ``s^2`` of Y given A and X.
    """

    phi: Array
    pi: Array
    tau: Array
    share: Array
    noise: float = 1.0

    def __post_init__(self) -> None:
        if not ((self.pi > 0) & (self.pi < 1)).all():
            raise ValueError("a propensity is not strictly between 0 and 1")
        if (self.share < 0).any() or not np.isclose(self.share.sum(), 1):
            raise ValueError("shares have to be probabilities")


def true_nuisances(sample: Sample) -> Nuisances:
    """The true nuisances of a sample's units; one outcome model per arm or for both is the same."""
    return Nuisances(
        pi=sample.e,
        kappa=1 - sample.e,
        m=sample.m,
        mu1=sample.mu1,
        mu0=sample.mu0,
        mu1_separate=sample.mu1,
        mu0_separate=sample.mu0,
    )


def oracle_fit(sample: Sample, row: Row, phi: Array) -> Array:
    """Coefficients ``(q,)`` of the row's effect on the basis ``phi (n, q)``, true nuisances."""
    g = pseudo_outcome(row.pseudo, sample.y, sample.a, true_nuisances(sample))
    w = weight(row.weight, sample.a, sample.e, 1 - sample.e)
    return weighted_least_squares(phi, g, w)


def variance_given_x(pseudo: Pseudo, pi: Array, tau: Array, noise: float = 1.0) -> Array:
    """``Var(g | X)`` at the true nuisances, shape of ``pi``."""
    kappa = 1 - pi
    match pseudo:
        case Pseudo.U:
            return noise * (pi**3 + kappa**3) / (pi * kappa) ** 2
        case Pseudo.COV:
            return (noise + tau**2) / (pi * kappa) - 4 * tau**2
        case Pseudo.DR | Pseudo.DR_SEPARATE:
            return noise / (pi * kappa)


def square_given_ax(pseudo: Pseudo, a: Array, pi: Array, tau: Array, noise: float = 1.0) -> Array:
    """``E[(g - tau)^2 | A, X]`` at the true nuisances; for U and DR it is ``Var(g | A, X)``."""
    kappa = 1 - pi
    match pseudo:
        case Pseudo.U:
            return noise / (a - pi) ** 2
        case Pseudo.COV:
            off = tau * ((a - pi) ** 2 / (pi * kappa) - 1)
            return noise * ((a - pi) / (pi * kappa)) ** 2 + off**2
        case Pseudo.DR | Pseudo.DR_SEPARATE:
            return noise * (a / pi**2 + (1 - a) / kappa**2)


def asymptotic_covariance(row: Row, design: Design) -> Array:
    """``M^-1 S M^-1``, ``(q, q)``: the covariance of the coefficients times n, for large n.

    Conditional on a fixed set of x with these shares, and for weights of X alone, it is exact at
    every n.

    Raises:
        ValueError: for Cov with a weight that depends on A, whose mean is not tau.
    """
    if row.pseudo is Pseudo.COV and row.weight in DEPEND_ON_A:
        raise ValueError(f"{row}: with a weight that depends on A, Cov does not estimate tau")
    q = design.phi.shape[1]
    inner, outer = np.zeros((q, q)), np.zeros((q, q))
    for treated, chance in ((1.0, design.pi), (0.0, 1 - design.pi)):
        a = np.full_like(design.pi, treated)
        w = weight(row.weight, a, design.pi, 1 - design.pi)
        square = square_given_ax(row.pseudo, a, design.pi, design.tau, design.noise)
        mass = design.share * chance
        inner += (design.phi * (mass * w)[:, None]).T @ design.phi
        outer += (design.phi * (mass * w**2 * square)[:, None]).T @ design.phi
    inverse = np.linalg.inv(inner)
    return inverse @ outer @ inverse


def mse_ratio(row: Row, to: Row, design: Design) -> float:
    """Mean squared error of ``phi' beta_hat`` over the law of X, ``row``'s divided by ``to``'s."""
    gram = (design.phi * design.share[:, None]).T @ design.phi
    over, under = (
        float(np.trace(asymptotic_covariance(each, design) @ gram)) for each in (row, to)
    )
    return over / under
