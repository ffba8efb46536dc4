"""The six simulated set-ups: A to D of Nie and Wager, E of Kennedy, F the author's illustration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retable.papers.r_learner.learners.base import Array

Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Setup:
    """``A ~ Bernoulli(e(X))``, ``Y = b(X) + (A - 1/2) tau(X) + N(0, 1)``.

    Attributes:
        draw: covariates ``(n, p)`` from a generator.
        b: mean of both arms' means, ``(n, p) -> (n,)``.
        e: propensity.
        tau: effect ``E[Y | X, A=1] - E[Y | X, A=0]``.
    """

    draw: Callable[[np.random.Generator, int], Array]
    b: Function
    e: Function
    tau: Function


@dataclass(frozen=True, eq=False)
class Sample:
    """Units with what is true about them; ``n`` rows, ``p`` covariates.

    Attributes:
        x: ``(n, p)`` covariates.
        a: ``(n,)`` treatment, 0 or 1.
        y: ``(n,)`` outcome.
        e: ``(n,)`` true propensity.
        b: ``(n,)`` true mean of the two arms' means.
        tau: ``(n,)`` true effect.
    """

    x: Array
    a: Array
    y: Array
    e: Array
    b: Array
    tau: Array

    @property
    def m(self) -> Array:
        """``E[Y | X] = b + (e - 1/2) tau``."""
        return self.b + (self.e - 0.5) * self.tau

    @property
    def mu1(self) -> Array:
        """``E[Y | X, A=1] = b + tau / 2``."""
        return self.b + self.tau / 2

    @property
    def mu0(self) -> Array:
        """``E[Y | X, A=0] = b - tau / 2``."""
        return self.b - self.tau / 2


def _uniform(low: float, high: float, p: int) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, n: rng.uniform(low, high, size=(n, p))


def _normal(p: int) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, n: rng.standard_normal((n, p))


def _plus(z: Array) -> Array:
    return np.maximum(z, 0.0)


def _softplus(z: Array) -> Array:
    return np.logaddexp(0.0, z)


def _zero(x: Array) -> Array:
    return np.zeros(len(x))


def _wave(x: Array) -> Array:
    return np.sin(np.pi * x[:, 0] * x[:, 1])


def _b_a(x: Array) -> Array:
    return _wave(x) + 2 * (x[:, 2] - 0.5) ** 2 + x[:, 3] + 0.5 * x[:, 4]


def _b_b(x: Array) -> Array:
    three = np.maximum(np.maximum(x[:, 0] + x[:, 1], x[:, 2]), 0.0)
    return three + _plus(x[:, 3] + x[:, 4])


def _b_c(x: Array) -> Array:
    return 2 * _softplus(x[:, 0] + x[:, 1] + x[:, 2])


def _b_d(x: Array) -> Array:
    return (_plus(x[:, 0] + x[:, 1] + x[:, 2]) + _plus(x[:, 3] + x[:, 4])) / 2


def _b_e(x: Array) -> Array:
    z = x[:, 0]
    out = np.zeros(len(z))  # 0 at 0 and 0.5, as in the authors' code
    pieces = (
        (z <= -0.5, 0.5 * (z + 2) ** 2),
        ((z > -0.5) & (z < 0), z / 2 + 0.875),
        ((z > 0) & (z < 0.5), -5 * (z - 0.2) ** 2 + 1.075),
        (z > 0.5, z + 0.125),
    )
    for inside, value in pieces:
        out[inside] = value[inside]
    return out


def _e_c(x: Array) -> Array:
    return 1 / (1 + np.exp(x[:, 1] + x[:, 2]))


def _e_d(x: Array) -> Array:
    return 1 / (1 + np.exp(-x[:, 0]) + np.exp(-x[:, 1]))


SETUPS: dict[str, Setup] = {
    "a": Setup(
        _uniform(0, 1, 10),
        _b_a,
        lambda x: np.maximum(0.1, np.minimum(0.9, _wave(x))),
        lambda x: (x[:, 0] + x[:, 1]) / 2,
    ),
    "b": Setup(
        _normal(10),
        _b_b,
        lambda x: np.full(len(x), 0.5),
        lambda x: x[:, 0] + _softplus(x[:, 1]),
    ),
    "c": Setup(
        _normal(10),
        _b_c,
        _e_c,
        lambda x: np.ones(len(x)),
    ),
    "d": Setup(
        _normal(10),
        _b_d,
        _e_d,
        lambda x: _plus(x[:, 0] + x[:, 1] + x[:, 2]) - _plus(x[:, 3] + x[:, 4]),
    ),
    "e": Setup(_uniform(-1, 1, 1), _b_e, lambda x: np.where(x[:, 0] > 0, 0.9, 0.1), _zero),
    "f": Setup(_uniform(0.05, 0.95, 1), _zero, lambda x: x[:, 0].copy(), _zero),
}
"""The set-ups by the letter that the paper gives them."""


def draw(setup: str, n: int, rng: np.random.Generator) -> Sample:
    """Draw units of a set-up, first all X, then A, then the noise of Y.

    Args:
        setup: a letter, ``a`` to ``f``.
        n: number of units.
        rng: source of randomness; it is advanced.

    Raises:
        ValueError: for another letter, or fewer units than one.
    """
    if setup not in SETUPS:
        raise ValueError(f"no set-up {setup!r}; there are {', '.join(SETUPS)}")
    if n < 1:
        raise ValueError(f"n = {n} units")
    chosen = SETUPS[setup]
    x = chosen.draw(rng, n)
    e, b, tau = chosen.e(x), chosen.b(x), chosen.tau(x)
    a = (rng.random(n) < e).astype(np.float64)
    y = b + (a - 0.5) * tau + rng.standard_normal(n)
    return Sample(x, a, y, e, b, tau)
