"""Solvers of the risk parity problem: improved and original coordinate descent, and Newton.

The problem: for a covariance ``Sigma`` (N x N) and risk budgets ``b > 0`` with ``sum b = 1``, find
weights ``w`` with ``sum w = 1`` whose shares of the risk are the budgets,

    RC_i(w) = w_i (Sigma w)_i / (w' Sigma w) = b_i .

With the volatilities taken out (``w_i sigma_i`` in place of ``w_i``, correlation ``C`` in place of
``Sigma``) and the scale fixed by ``w' C w = 1`` it reads ``w_i (C w)_i = b_i``. The methods are
those of Choi and Chen, "Improved iterative methods for solving risk parity portfolio" (2022, arXiv
2203.00148; the authors' code is PyFENG, class ``RiskParity``), and its baselines.

All functions here check their input, compute in float64 and say whether they converged. The forms
for batches of matrices are in :mod:`retable.papers.risk_parity.batched` and exported here too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from retable.papers.risk_parity import literal
from retable.papers.risk_parity import newton as newton_steps
from retable.papers.risk_parity.batched import (
    BatchSolution,
    ccd_improved_batched,
    ccd_original_batched,
    newton_batched,
)
from retable.papers.risk_parity.literal import FloatArray, Outcome
from retable.papers.risk_parity.matrices import (
    check_budgets,
    check_covariance,
    check_signs,
    check_stopping,
)
from retable.papers.risk_parity.newton import Guess, Method

__all__ = [
    "BatchSolution",
    "Guess",
    "Implementation",
    "Method",
    "Solution",
    "ccd_improved",
    "ccd_improved_batched",
    "ccd_original",
    "ccd_original_batched",
    "newton",
    "newton_batched",
    "risk_shares",
]

Implementation = Literal["literal", "compiled"]
Array = TypeVar("Array", NDArray[Any], Tensor)


@dataclass(frozen=True, slots=True, eq=False)
class Solution(Generic[Array]):
    """Result of one solve.

    Attributes:
        weights: ``(N,)`` float64, divided by their sum; a tensor on the same device if the
            covariance was one. If ``converged`` is false, the last iterate, divided by its sum.
        n_iter: Sweeps (coordinate descent), residual evaluations (``hybr``) or steps (``pure``,
            ``damped``). ``max_sweeps`` if not ``converged``, save for ``hybr``.
        error: What the stop rule looks at, at the last iterate: the largest absolute error of the
            risk shares; only for ``hybr`` it is ``max_i |F_i|``, as the authors report it.
        converged: Whether the stop rule was met, and for Newton also whether the weights are
            positive.
    """

    weights: Array
    n_iter: int
    error: float
    converged: bool


def ccd_improved(
    cov: Array,
    budgets: ArrayLike | Tensor | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    signs: ArrayLike | Tensor | None = None,
    implementation: Implementation = "literal",
    rescale: bool = True,
    check: bool = True,
) -> Solution[Array]:
    """Improved cyclical coordinate descent, the paper's method.

    On the correlation matrix, coordinate after coordinate with the newest values,
    ``w_i = s_i sqrt(a_i^2 + b_i) - a_i`` with ``a_i = ((C w)_i - w_i) / 2``; at the end of a sweep
    ``w <- w / sqrt(w' C w)``, and the method stops once ``max_i |w_i (C w)_i - b_i| < tol``.

    Args:
        cov: ``(N, N)``, covariance, in squared returns; may be singular. Any real dtype, converted
            to float64.
        budgets: ``(N,)``, positive, summing to 1; ``None`` for ``1 / N`` each.
        tol: Absolute tolerance on the risk shares (which are of size ``1 / N``).
        max_sweeps: Largest number of sweeps over all coordinates.
        signs: ``(N,)``, +1 for a long and -1 for a short asset; ``None`` for all long. With mixed
            signs neither a solution nor convergence is assured.
        implementation: ``literal`` runs one Python step per coordinate, as the authors timed it;
            ``compiled`` runs the same iteration in machine code (extra ``risk-parity``).
        rescale: ``False`` leaves out the rescaling, the second of the paper's two changes; the stop
            rule still looks at the risk shares.
        check: ``False`` skips the checks of ``cov``, for timings of a matrix known to be sound.

    Returns:
        The solution; look at ``converged``.

    Raises:
        ValueError: If an argument is out of its range; see
            :mod:`retable.papers.risk_parity.matrices`.
        ImportError: If ``compiled`` is asked for without numba.
    """
    kernels = _kernels(implementation)
    matrix, b, s = _prepare(cov, budgets, signs, tol, max_sweeps, check, kernels.check_covariance)
    return _solution(cov, kernels.ccd_improved(matrix, b, s, tol, max_sweeps, rescale))


def ccd_original(
    cov: Array,
    budgets: ArrayLike | Tensor | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    signs: ArrayLike | Tensor | None = None,
    implementation: Implementation = "literal",
    check: bool = True,
) -> Solution[Array]:
    """Original cyclical coordinate descent of Griveau-Billion, Richard and Roncalli (2013).

    On the covariance itself, with ``v = sqrt(w' Sigma w)`` renewed after each coordinate,
    ``w_i = (s_i sqrt(a_i^2 + Sigma_ii b_i v) - a_i) / Sigma_ii`` with
    ``a_i = ((Sigma w)_i - Sigma_ii w_i) / 2``; it stops once
    ``max_i |w_i (Sigma w)_i / v - b_i| < tol``. Not invariant to the units of ``cov``.

    Args:
        cov: ``(N, N)``, as for :func:`ccd_improved`.
        budgets: ``(N,)``, as for :func:`ccd_improved`.
        tol: Absolute tolerance of the stop rule.
        max_sweeps: Largest number of sweeps over all coordinates.
        signs: ``(N,)``, as for :func:`ccd_improved`.
        implementation: As for :func:`ccd_improved`.
        check: As for :func:`ccd_improved`.

    Returns:
        The solution; look at ``converged``.

    Raises:
        ValueError: If an argument is out of its range.
        ImportError: If ``compiled`` is asked for without numba.
    """
    kernels = _kernels(implementation)
    matrix, b, s = _prepare(cov, budgets, signs, tol, max_sweeps, check, kernels.check_covariance)
    return _solution(cov, kernels.ccd_original(matrix, b, s, tol, max_sweeps))


def newton(
    cov: Array,
    budgets: ArrayLike | Tensor | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    guess: Guess = "improved",
    method: Method = "hybr",
    check: bool = True,
) -> Solution[Array]:
    """Newton's method on ``C w - b / w = 0``, long only.

    Args:
        cov: ``(N, N)``, as for :func:`ccd_improved`.
        budgets: ``(N,)``, as for :func:`ccd_improved`.
        tol: For ``hybr`` the relative tolerance of MINPACK on the step (``xtol``), as the authors
            set it; otherwise the absolute tolerance on the risk shares.
        max_sweeps: Largest number of residual evaluations or steps.
        guess: ``improved`` starts from one simultaneous coordinate step, ``plain`` from equal
            entries.
        method: ``hybr`` is SciPy's ``root`` with the analytic Jacobian, which the paper times;
            ``pure`` takes full steps; ``damped`` the steps of Spinu (2013), with one addition that
            keeps ``w > 0`` for any budgets.
        check: As for :func:`ccd_improved`.

    Returns:
        The solution. ``converged`` is false for a root with a weight that is not positive, which
        full steps from the plain start do reach; and for ``hybr`` also if a risk share misses its
        budget by ``10 * tol``.

    Raises:
        ValueError: If an argument is out of its range.
    """
    if guess not in ("improved", "plain"):
        raise ValueError(f"guess must be 'improved' or 'plain'; got {guess!r}")
    if method not in ("hybr", "pure", "damped"):
        raise ValueError(f"method must be 'hybr', 'pure' or 'damped'; got {method!r}")
    matrix, b, _ = _prepare(cov, budgets, None, tol, max_sweeps, check, check_covariance)
    return _solution(cov, newton_steps.newton(matrix, b, tol, max_sweeps, guess, method))


def risk_shares(cov: ArrayLike, weights: ArrayLike) -> FloatArray:
    """Shares of the risk, ``RC_i = w_i (Sigma w)_i / (w' Sigma w)``.

    Args:
        cov: ``(N, N)``, covariance.
        weights: ``(N,)``, of any scale.

    Returns:
        ``(N,)``, summing to 1.
    """
    w = np.asarray(weights, dtype=np.float64)
    q = np.asarray(cov, dtype=np.float64) @ w
    return w * q / np.dot(w, q)


class _Kernels(NamedTuple):
    """Functions of an implementation of the coordinate descents."""

    check_covariance: Callable[[FloatArray], None]
    ccd_improved: Callable[[FloatArray, FloatArray, FloatArray, float, int, bool], Outcome]
    ccd_original: Callable[[FloatArray, FloatArray, FloatArray, float, int], Outcome]


@cache
def _kernels(implementation: Implementation) -> _Kernels:
    if implementation == "literal":
        return _Kernels(check_covariance, literal.ccd_improved, literal.ccd_original)
    if implementation == "compiled":
        # Imported on demand: numba is optional, and takes its time to load.
        try:
            from retable.papers.risk_parity import compiled
        except ImportError as error:
            raise ImportError(
                "implementation='compiled' needs numba; install the extra: retable[risk-parity]"
            ) from error
        return _Kernels(compiled.check_covariance, compiled.ccd_improved, compiled.ccd_original)
    raise ValueError(f"implementation must be 'literal' or 'compiled'; got {implementation!r}")


def _prepare(
    cov: NDArray[Any] | Tensor,
    budgets: ArrayLike | Tensor | None,
    signs: ArrayLike | Tensor | None,
    tol: float,
    max_sweeps: int,
    check: bool,
    check_matrix: Callable[[FloatArray], None],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Checked float64 arrays; the matrix is not copied if it need not be."""
    check_stopping(tol, max_sweeps)
    matrix = np.asarray(_host(cov), dtype=np.float64)
    if check or matrix.ndim != 2:
        check_matrix(matrix)
    n_assets = len(matrix)
    # Small problems take a few microseconds, as does making two arrays of defaults.
    b, s = _defaults(n_assets)
    if budgets is not None:
        b = check_budgets(_host(budgets), n_assets)
    if signs is not None:
        s = check_signs(_host(signs), n_assets)
    return matrix, b, s


@lru_cache(maxsize=64)
def _defaults(n_assets: int) -> tuple[FloatArray, FloatArray]:
    """Equal budgets and all long; the solvers only read them."""
    return check_budgets(None, n_assets), check_signs(None, n_assets)


def _host(value: Any) -> Any:
    if type(value) is np.ndarray:  # asking it whether it is a Tensor takes microseconds
        return value
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def _solution(cov: Array, outcome: Outcome) -> Solution[Array]:
    weights, n_iter, error, converged = outcome
    if isinstance(cov, Tensor):
        return Solution(torch.as_tensor(weights, device=cov.device), n_iter, error, converged)
    return Solution(weights, n_iter, error, converged)
