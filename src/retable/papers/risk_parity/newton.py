"""Newton's method on ``F(w) = C w - b / w = 0``, one matrix at a time.

``F`` is the gradient of the convex ``f(w) = w' C w / 2 - sum_i b_i log w_i`` and its Jacobian
``J = C + diag(b / w^2)`` is positive definite even where ``C`` is singular. Three variants share
it: Powell's hybrid method of MINPACK, which the paper times; full Newton steps ``w <- w - u`` with
``u = J^-1 F``; and those of Spinu (2013), which go ``w <- w - u / (1 + max_i |u_i / w_i|)`` while
the decrement ``sqrt(F' u)`` is large. The arguments are not checked; see
:mod:`retable.papers.risk_parity.solvers`.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
from scipy.optimize import (
    root,
)

from retable.papers.risk_parity.literal import FloatArray, Outcome, correlation

_root = cast("Callable[..., Any]", root)

Guess = Literal["improved", "plain"]
Method = Literal["hybr", "pure", "damped"]

FULL_STEP_BELOW = 0.95 * (3.0 - 5.0**0.5) / 2.0
"""Newton decrement at which the first phase of the damped variant ends (Spinu 2013)."""


def start(cor: FloatArray, budgets: FloatArray, guess: Guess) -> FloatArray:
    """Starting point of the iteration.

    ``plain`` is ``w_i = 1 / sqrt(1' C 1)``. ``improved`` is one simultaneous coordinate step from
    there: ``a_i = (sum_j C_ij - 1) / (2 sqrt(1' C 1))`` and ``w_i = sqrt(a_i^2 + b_i) - a_i``.

    Args:
        cor: ``(N, N)``, correlation.
        budgets: ``(N,)``, risk budgets, summing to 1.
        guess: Which of the two.

    Returns:
        ``(N,)``, positive.
    """
    scale = np.sqrt(cor.sum())
    if guess == "plain":
        return np.full(len(cor), 1.0 / scale)
    a = 0.5 * (cor.sum(axis=1) - 1.0) / scale
    return np.sqrt(a * a + budgets) - a


def residual(w: FloatArray, cor: FloatArray, budgets: FloatArray) -> FloatArray:
    """``F(w) = C w - b / w``, shape ``(N,)``."""
    return cor @ w - budgets / w


def jacobian(w: FloatArray, cor: FloatArray, budgets: FloatArray) -> FloatArray:
    """``J(w) = C + diag(b / w^2)``, shape ``(N, N)``."""
    return cor + np.diag(budgets / (w * w))


def share_error(w: FloatArray, q: FloatArray, budgets: FloatArray) -> float:
    """``max_i |w_i q_i / (w' q) - b_i|`` with ``q = C w``: the error of the risk shares."""
    return float(np.max(np.abs(w * q / np.dot(w, q) - budgets)))


def newton(
    cov: FloatArray,
    budgets: FloatArray,
    tol: float,
    max_sweeps: int,
    guess: Guess,
    method: Method,
) -> Outcome:
    """Solve by one of the three variants.

    Args:
        cov: ``(N, N)``, covariance.
        budgets: ``(N,)``, risk budgets.
        tol: ``xtol`` of MINPACK for ``hybr``; for the others, absolute tolerance on the risk
            shares.
        max_sweeps: Largest number of residual evaluations (``hybr``) or of steps.
        guess: Starting point, see :func:`start`.
        method: The variant.

    Returns:
        Weights, residual evaluations or steps, error (``max_i |F_i|`` for ``hybr``, else of the
        risk shares), convergence. A root with an entry that is not positive is no portfolio and
        counts as not converged.
    """
    cor, sigma = correlation(cov)
    w = start(cor, budgets, guess)
    if method == "hybr":
        w, count, error, met = _hybr(w, cor, budgets, tol, max_sweeps)
    else:
        damped = method == "damped"
        w, count, error, met = _steps(w, cor, budgets, tol, max_sweeps, damped)
    converged = met and bool(np.all(w > 0))
    if not converged and method != "hybr":
        count = max_sweeps  # full steps can end at a root with negative entries
    w = w / sigma
    return w / w.sum(), count, error, converged


def _hybr(
    w: FloatArray, cor: FloatArray, budgets: FloatArray, tol: float, max_sweeps: int
) -> Outcome:
    solution = _root(
        residual,
        w,
        (cor, budgets),
        method="hybr",
        jac=jacobian,
        tol=tol,
        options={"maxfev": max_sweeps},
    )
    x = np.asarray(solution.x, dtype=np.float64)
    # MINPACK stops on the size of its step, so its success alone says nothing of the budgets. The
    # factor 10 is the slack that the authors' notebook gives to this solver.
    met = bool(solution.success) and share_error(x, cor @ x, budgets) < 10.0 * tol
    return x, int(solution.nfev), float(np.max(np.abs(solution.fun))), met


def _steps(
    w: FloatArray,
    cor: FloatArray,
    budgets: FloatArray,
    tol: float,
    max_sweeps: int,
    damped: bool,
) -> Outcome:
    q = cor @ w
    error = share_error(w, q, budgets)
    first_phase = damped
    n_iter = 0
    while n_iter < max_sweeps and not error < tol:
        if not np.isfinite(error):
            return w, max_sweeps, error, False  # nothing can change any more
        n_iter += 1
        f = q - budgets / w
        u = np.linalg.solve(jacobian(w, cor, budgets), f)
        delta = np.max(np.abs(u / w))
        first_phase = first_phase and bool(np.sqrt(np.dot(f, u)) > FULL_STEP_BELOW)
        # The bound on the decrement presumes b_i >= 1. With small budgets it can end the first
        # phase too early, and then a full step with delta >= 1 would leave the positive orthant.
        shorten = first_phase or (damped and delta >= 1.0)
        w = w - u / (1.0 + delta) if shorten else w - u
        q = cor @ w
        error = share_error(w, q, budgets)
    return w, n_iter, error, error < tol
