"""Both coordinate descents as machine code, by numba (extra ``risk-parity``).

The iterates are those of :mod:`retable.papers.risk_parity.literal` up to rounding, but a sweep
costs N^2 multiply-adds where the literal loops spend 2 N^2, and reads only the lower triangle, once
and row by row. Both methods need ``sum_j Sigma_ij w_j`` with the new ``w_j`` for ``j < i`` and the
old ones for ``j > i``. The first part is a dot product with the start of row i. The second,

    upper_i = sum_{j > i} Sigma_ij w_j = sum_{j > i} Sigma_ji w_j ,

is gathered while the rows below are visited in the *previous* sweep: as soon as ``w_j`` is known,
row j (still in the cache) times ``w_j`` is added to ``upper_0 .. upper_{j-1}``. At the end of a
sweep ``lower_i + upper_i + Sigma_ii w_i`` is the new ``(Sigma w)_i``, so that neither the product
``C w`` of the improved method nor the update of ``q`` of the original one is a pass of its own.
Both are treated alike: what differs between their run times is what differs between the methods.

The functions have explicit signatures, hence are compiled (or loaded from the cache) when this
module is imported; a process forked afterwards inherits them. ``fastmath`` allows nothing but a
change of the order of sums and fused multiply-adds: NaN and infinities keep their meaning.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from retable.papers.risk_parity import matrices
from retable.papers.risk_parity.literal import FloatArray, Outcome

_MATH = {"reassoc", "contract"}
_TILE = 16


def _compile(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile at once; untyped, since numba's decorators are."""
    return njit(signature, cache=True, fastmath=_MATH, error_model="numpy", nogil=True)


@_compile("boolean(float64[:, ::1], float64)")
def _plausible(cov: FloatArray, symmetry_tol: float) -> bool:
    """Whether :func:`matrices.check_covariance` passes, tile by tile for the cache."""
    n = len(cov)
    inverse = np.empty(n)
    for i in range(n):
        if not 0.0 < cov[i, i] < np.inf:
            return False
        inverse[i] = 1.0 / math.sqrt(cov[i, i])
    total = 0.0
    asymmetry = 0.0
    for top in range(0, n, _TILE):
        for left in range(0, top + 1, _TILE):
            for i in range(top, min(top + _TILE, n)):
                for j in range(left, min(left + _TILE, i)):
                    scale = inverse[i] * inverse[j]
                    difference = abs(cov[i, j] - cov[j, i]) * scale
                    asymmetry = max(asymmetry, difference)
                    total += scale * cov[i, j] + difference  # passes NaN on, unlike max
    return asymmetry <= symmetry_tol and 0.0 < 2.0 * total + n < np.inf


@_compile("void(float64[::1], float64, float64[::1], int64)")
def _axpy(row: FloatArray, factor: float, out: FloatArray, n: int) -> None:
    for j in range(n):
        out[j] += factor * row[j]


@_compile("float64(float64[::1], float64[::1], int64)")
def _dot(row: FloatArray, x: FloatArray, n: int) -> float:
    total = 0.0
    for j in range(n):
        total += row[j] * x[j]
    return total


@_compile(
    "Tuple((float64[::1], int64, float64, boolean))"
    "(float64[:, ::1], float64[::1], float64[::1], float64, int64, boolean)"
)
def _improved(
    cov: FloatArray,
    budgets: FloatArray,
    signs: FloatArray,
    tol: float,
    max_sweeps: int,
    rescale: bool,
) -> Outcome:
    # x = w / sigma are the weights of the assets themselves: (C w)_i = (Sigma x)_i / sigma_i spares
    # the correlation matrix.
    n = len(cov)
    w = np.empty(n)
    x = np.empty(n)
    lower = np.empty(n)
    upper = np.zeros(n)
    inverse = np.empty(n)
    total = 0.0
    for i in range(n):
        inverse[i] = 1.0 / math.sqrt(cov[i, i])
        x[i] = inverse[i]
        total += 1.0 + 2.0 * inverse[i] * _dot(cov[i], x, i)
        _axpy(cov[i], x[i], upper, i)
    scale = 1.0 / math.sqrt(total)
    for i in range(n):
        x[i] *= scale
        upper[i] *= scale
    error = np.inf
    n_iter = 0
    while n_iter < max_sweeps and not error < tol:
        n_iter += 1
        for i in range(n):
            row = cov[i]
            lower[i] = _dot(row, x, i)
            a = 0.5 * inverse[i] * (lower[i] + upper[i])
            w[i] = signs[i] * math.sqrt(a * a + budgets[i]) - a
            x[i] = w[i] * inverse[i]
            upper[i] = 0.0
            _axpy(row, x[i], upper, i)
        variance = 0.0
        for i in range(n):
            lower[i] = w[i] * (w[i] + inverse[i] * (lower[i] + upper[i]))
            variance += lower[i]
        error = 0.0
        for i in range(n):
            error = max(error, abs(lower[i] / variance - budgets[i]))
        if not 0.0 < variance < np.inf:
            error = np.nan
        if rescale:
            scale = 1.0 / math.sqrt(variance)
            for i in range(n):
                x[i] *= scale
                upper[i] *= scale
    return x / np.sum(x), n_iter, error, error < tol


@_compile(
    "Tuple((float64[::1], int64, float64, boolean))"
    "(float64[:, ::1], float64[::1], float64[::1], float64, int64)"
)
def _original(
    cov: FloatArray, budgets: FloatArray, signs: FloatArray, tol: float, max_sweeps: int
) -> Outcome:
    # v^2 = w' Sigma w is brought up to date with two multiply-adds, v^2 += d (2 q_i + Sigma_ii d)
    # for w_i += d, in place of a dot product, and summed afresh after each sweep.
    n = len(cov)
    w = np.empty(n)
    lower = np.empty(n)
    upper = np.zeros(n)
    total = 0.0
    for i in range(n):
        w[i] = 1.0 / math.sqrt(cov[i, i])
        total += w[i]
    variance = 0.0
    for i in range(n):
        w[i] /= total
        variance += w[i] * (cov[i, i] * w[i] + 2.0 * _dot(cov[i], w, i))
        _axpy(cov[i], w[i], upper, i)
    v = math.sqrt(variance)
    error = np.inf
    n_iter = 0
    while n_iter < max_sweeps and not error < tol:
        n_iter += 1
        for i in range(n):
            row = cov[i]
            diagonal = row[i]
            lower[i] = _dot(row, w, i)
            a = 0.5 * (lower[i] + upper[i])
            new = (signs[i] * math.sqrt(a * a + diagonal * v * budgets[i]) - a) / diagonal
            change = new - w[i]
            variance += change * (4.0 * a + diagonal * (new + w[i]))
            v = math.sqrt(variance)
            w[i] = new
            upper[i] = 0.0
            _axpy(row, new, upper, i)
        variance = 0.0
        for i in range(n):
            lower[i] = w[i] * (cov[i, i] * w[i] + lower[i] + upper[i])
            variance += lower[i]
        v = math.sqrt(variance)
        error = 0.0
        for i in range(n):
            error = max(error, abs(lower[i] / v - budgets[i]))
        if not 0.0 < variance < np.inf:
            error = np.nan
    return w / np.sum(w), n_iter, error, error < tol


def _aligned(cov: FloatArray) -> FloatArray:
    # The signatures ask for a writeable C array; a symmetric matrix is its own transpose.
    if cov.flags.f_contiguous:
        cov = cov.T
    if cov.flags.c_contiguous and cov.flags.writeable:
        return cov
    return np.array(cov, order="C")


def check_covariance(cov: FloatArray) -> None:
    """Compiled form of :func:`retable.papers.risk_parity.matrices.check_covariance`."""
    square = cov.ndim == 2 and cov.shape[0] == cov.shape[1] and cov.shape[0] > 0
    if not (square and _plausible(_aligned(cov), matrices.SYMMETRY_TOL)):
        matrices.check_covariance(cov)


def ccd_improved(
    cov: FloatArray,
    budgets: FloatArray,
    signs: FloatArray,
    tol: float,
    max_sweeps: int,
    rescale: bool,
) -> Outcome:
    """Improved method; arguments and result as in :func:`literal.ccd_improved`.

    Only the lower triangle of ``cov`` is read.
    """
    return _improved(_aligned(cov), budgets, signs, tol, max_sweeps, rescale)


def ccd_original(
    cov: FloatArray,
    budgets: FloatArray,
    signs: FloatArray,
    tol: float,
    max_sweeps: int,
) -> Outcome:
    """Original method; arguments and result as in :func:`literal.ccd_original`.

    Only the lower triangle of ``cov`` is read.
    """
    return _original(_aligned(cov), budgets, signs, tol, max_sweeps)
