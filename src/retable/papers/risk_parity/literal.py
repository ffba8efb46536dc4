"""Both coordinate descents as the authors run them: one Python step per coordinate.

These loops mirror the order of the operations in the authors' PyFENG (class ``RiskParity``), so
that sweep counts, final errors and *ratios* of run times can be compared with theirs. Nothing is
rearranged for speed or for accuracy: in particular the root ``sqrt(a^2 + b) - a`` is left in the
form that cancels for large ``a``. The arguments are not checked; see
:mod:`retable.papers.risk_parity.solvers` for the public functions.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Outcome = tuple[FloatArray, int, float, bool]
"""Weights that sum to 1, sweeps, final error, whether the error met the tolerance."""


def correlation(cov: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split a covariance into correlation and volatilities.

    Args:
        cov: ``(N, N)``, covariance.

    Returns:
        ``C_ij = Sigma_ij / (sigma_i sigma_j)``, ``(N, N)``, and ``sigma``, ``(N,)``.
    """
    sigma = np.sqrt(cov.diagonal())
    return cov / np.outer(sigma, sigma), sigma


def ccd_improved(
    cov: FloatArray,
    budgets: FloatArray,
    signs: FloatArray,
    tol: float,
    max_sweeps: int,
    rescale: bool,
) -> Outcome:
    """Improved cyclical coordinate descent: correlation matrix, and rescaling after each sweep.

    One coordinate solves ``w_i^2 + 2 a_i w_i - b_i = 0`` with ``a_i = ((C w)_i - w_i) / 2``, hence
    ``w_i = s_i sqrt(a_i^2 + b_i) - a_i``, with the newest ``w`` (Gauss-Seidel). The sweep ends with
    ``w <- w / sqrt(w' C w)``, and only then is ``max_i |w_i (C w)_i - b_i|`` compared with ``tol``.

    Args:
        cov: ``(N, N)``, covariance.
        budgets: ``(N,)``, risk budgets.
        signs: ``(N,)``, +1 for long and -1 for short.
        tol: Bound of the absolute error, in shares of the risk.
        max_sweeps: Largest number of sweeps.
        rescale: Whether to rescale. ``False`` leaves only the change to the correlation matrix;
            the error is then divided by ``w' C w``, so that the stop rule stays the same one.

    Returns:
        Weights, sweeps, error, convergence.
    """
    cor, sigma = correlation(cov)
    w = np.full(len(cor), 1.0 / np.sqrt(cor.sum()))
    error = np.inf
    n_iter = 0
    while n_iter < max_sweeps and not error < tol:
        n_iter += 1
        for i, row in enumerate(cor):
            a = (np.dot(row, w) - w[i]) / 2
            w[i] = signs[i] * np.sqrt(a * a + budgets[i]) - a
        u = cor @ w
        v = np.sqrt(np.dot(w, u))
        u /= v
        if rescale:
            w /= v
            error = float(np.max(np.abs(w * u - budgets)))
        else:
            error = float(np.max(np.abs(w * u / v - budgets)))
    w /= sigma
    return w / w.sum(), n_iter, error, error < tol


def ccd_original(
    cov: FloatArray,
    budgets: FloatArray,
    signs: FloatArray,
    tol: float,
    max_sweeps: int,
) -> Outcome:
    """Original cyclical coordinate descent of Griveau-Billion, Richard and Roncalli (2013).

    One coordinate solves ``Sigma_ii w_i^2 + 2 a_i w_i - b_i v = 0`` with ``v = sqrt(w' Sigma w)``
    held, ``a_i = ((Sigma w)_i - Sigma_ii w_i) / 2``; then ``q = Sigma w`` and ``v`` are brought up
    to date at once, which is what makes a step dearer than one of :func:`ccd_improved`. The stop
    rule is ``max_i |w_i q_i / v - b_i| < tol``: divided by ``v`` once, as the fixed point has
    ``v = 1``.

    Args:
        cov: ``(N, N)``, covariance.
        budgets: ``(N,)``, risk budgets.
        signs: ``(N,)``, +1 for long and -1 for short.
        tol: Bound of the absolute error.
        max_sweeps: Largest number of sweeps.

    Returns:
        Weights, sweeps, error, convergence.
    """
    w = 1.0 / np.sqrt(cov.diagonal())
    w /= w.sum()
    q = cov @ w
    v = np.sqrt(np.dot(w, q))
    error = np.inf
    n_iter = 0
    while n_iter < max_sweeps and not error < tol:
        n_iter += 1
        for i in range(len(w)):
            a = (q[i] - cov[i, i] * w[i]) / 2
            new = (signs[i] * np.sqrt(a * a + cov[i, i] * v * budgets[i]) - a) / cov[i, i]
            q += cov[:, i] * (new - w[i])
            w[i] = new
            v = np.sqrt(np.dot(w, q))
        error = float(np.max(np.abs(w * q / v - budgets)))
    return w / w.sum(), n_iter, error, error < tol
