"""The coordinate descents on batches in the host's memory, as machine code (extra ``risk-parity``).

One matrix after the other: each fits a cache, while a step on the same coordinate of all matrices,
as the tensors of :mod:`retable.papers.risk_parity.batched` take it, reads all of them in every
sweep. That form is for a GPU; this one is faster than a loop over solves on a CPU. Each matrix has
the weights, sweeps and error that :mod:`retable.papers.risk_parity.compiled` gives it alone.
"""

# pyright: reportPrivateUsage=false
# The kernels of compiled.py and these are one unit in two files; the others are part of every run.

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from retable.papers.risk_parity import matrices
from retable.papers.risk_parity.batched import BatchSolution, _rows
from retable.papers.risk_parity.compiled import (
    _compile,
    _improved,
    _original,
    _plausible,
)
from retable.papers.risk_parity.literal import FloatArray

_Outcome = tuple[FloatArray, NDArray[np.int64], FloatArray, NDArray[np.bool_]]


@_compile(
    "Tuple((float64[:, ::1], int64[::1], float64[::1], boolean[::1]))"
    "(float64[:, :, ::1], float64[:, ::1], float64[:, ::1], float64, int64, boolean)"
)
def _improved_batch(
    covs: FloatArray,
    budgets: FloatArray,
    signs: FloatArray,
    tol: float,
    max_sweeps: int,
    rescale: bool,
) -> _Outcome:
    count, n, _ = covs.shape
    weights = np.empty((count, n))
    n_iter = np.empty(count, dtype=np.int64)
    error = np.empty(count)
    converged = np.empty(count, dtype=np.bool_)
    for k in range(count):
        weights[k], n_iter[k], error[k], converged[k] = _improved(
            covs[k], budgets[k], signs[k], tol, max_sweeps, rescale
        )
    return weights, n_iter, error, converged


@_compile(
    "Tuple((float64[:, ::1], int64[::1], float64[::1], boolean[::1]))"
    "(float64[:, :, ::1], float64[:, ::1], float64[:, ::1], float64, int64)"
)
def _original_batch(
    covs: FloatArray, budgets: FloatArray, signs: FloatArray, tol: float, max_sweeps: int
) -> _Outcome:
    count, n, _ = covs.shape
    weights = np.empty((count, n))
    n_iter = np.empty(count, dtype=np.int64)
    error = np.empty(count)
    converged = np.empty(count, dtype=np.bool_)
    for k in range(count):
        weights[k], n_iter[k], error[k], converged[k] = _original(
            covs[k], budgets[k], signs[k], tol, max_sweeps
        )
    return weights, n_iter, error, converged


@_compile("boolean[::1](float64[:, :, ::1], float64)")
def _plausible_batch(covs: FloatArray, symmetry_tol: float) -> NDArray[np.bool_]:
    out = np.empty(len(covs), dtype=np.bool_)
    for k in range(len(covs)):
        out[k] = _plausible(covs[k], symmetry_tol)
    return out


def ccd_improved_batch(
    covs: ArrayLike,
    budgets: ArrayLike | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    signs: ArrayLike | None = None,
    rescale: bool = True,
) -> BatchSolution:
    """Improved cyclical coordinate descent on each matrix of a batch.

    Args:
        covs: ``(B, N, N)``, covariances, converted to float64.
        budgets: ``(N,)`` for all or ``(B, N)``; ``None`` for ``1 / N`` each.
        tol: Absolute tolerance on the risk shares.
        max_sweeps: Largest number of sweeps.
        signs: ``(N,)`` or ``(B, N)`` of +1 and -1; ``None`` for all long.
        rescale: Whether to rescale after each sweep.

    Returns:
        The solutions, in the order of ``covs``, as tensors on the CPU.

    Raises:
        ValueError: If an argument is out of its range; the message names the matrix.
    """
    arrays = _prepare(covs, budgets, signs, tol, max_sweeps)
    return _solution(_improved_batch(*arrays, tol, max_sweeps, rescale))


def ccd_original_batch(
    covs: ArrayLike,
    budgets: ArrayLike | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    signs: ArrayLike | None = None,
) -> BatchSolution:
    """Original cyclical coordinate descent; arguments as for :func:`ccd_improved_batch`."""
    arrays = _prepare(covs, budgets, signs, tol, max_sweeps)
    return _solution(_original_batch(*arrays, tol, max_sweeps))


def _prepare(
    covs: ArrayLike,
    budgets: ArrayLike | None,
    signs: ArrayLike | None,
    tol: float,
    max_sweeps: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    matrices.check_stopping(tol, max_sweeps)
    # The signatures ask for a writeable C array.
    batch = np.require(covs, dtype=np.float64, requirements=["C", "W"])
    if batch.ndim != 3 or batch.shape[1] != batch.shape[2] or 0 in batch.shape:
        raise ValueError(f"covs must be a batch (B, N, N); got shape {batch.shape}")
    for index in np.flatnonzero(~_plausible_batch(batch, matrices.SYMMETRY_TOL)):
        matrices.check_covariance(batch[index], f"covs[{index}]")
    count, n_assets, _ = batch.shape
    return (
        batch,
        _rows(budgets, count, n_assets, "budgets", matrices.check_budgets),
        _rows(signs, count, n_assets, "signs", matrices.check_signs),
    )


def _solution(outcome: _Outcome) -> BatchSolution:
    return BatchSolution(*(torch.from_numpy(part) for part in outcome))
