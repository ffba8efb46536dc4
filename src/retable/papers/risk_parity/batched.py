"""The solvers on batches of covariance matrices, as torch tensors on any device.

All matrices of a batch take their steps together, but each one stops by itself: its weights,
``n_iter`` and ``error`` are those of its own last sweep, as if it had been solved alone. Time per
matrix means nothing here. float64 throughout, since a tolerance of 1e-6 on risk shares is out of
reach of float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from retable.papers.risk_parity.matrices import (
    SYMMETRY_TOL,
    check_budgets,
    check_covariance,
    check_signs,
    check_stopping,
)
from retable.papers.risk_parity.newton import FULL_STEP_BELOW, Guess

_solve_ex = cast(
    "Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]",
    torch.linalg.solve_ex,
)

State = tuple[Tensor, ...]
"""Tensors with the batch as first dimension; the first one holds the weights, ``(B, N)``."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchSolution:
    """Results of B solves; the fields mean what they mean in ``Solution``.

    Attributes:
        weights: ``(B, N)`` float64, on the device of the covariances; rows sum to 1.
        n_iter: ``(B,)`` int64.
        error: ``(B,)`` float64.
        converged: ``(B,)`` bool.
    """

    weights: Tensor
    n_iter: Tensor
    error: Tensor
    converged: Tensor


def ccd_improved_batched(
    cov: Tensor,
    budgets: ArrayLike | Tensor | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    signs: ArrayLike | Tensor | None = None,
    rescale: bool = True,
) -> BatchSolution:
    """Improved cyclical coordinate descent on each matrix of a batch.

    Args:
        cov: ``(B, N, N)``, covariances, converted to float64.
        budgets: ``(N,)`` for all or ``(B, N)``; ``None`` for ``1 / N`` each.
        tol: Absolute tolerance on the risk shares.
        max_sweeps: Largest number of sweeps.
        signs: ``(N,)`` or ``(B, N)`` of +1 and -1; ``None`` for all long.
        rescale: Whether to rescale after each sweep.

    Returns:
        The solutions, in the order of ``cov``.

    Raises:
        ValueError: If an argument is out of its range; the message names the matrix.
    """
    cov, b, s = _prepare(cov, budgets, signs, tol, max_sweeps)
    cor, sigma = _correlations(cov)
    w = cor.sum(dim=(1, 2)).rsqrt()[:, None].expand(b.shape).clone()

    def sweep(state: State) -> tuple[State, Tensor]:
        w, cor, b, s = state
        for i in range(w.shape[1]):
            a = (_dot(cor[:, i], w) - w[:, i]) / 2
            w[:, i] = s[:, i] * torch.sqrt(a * a + b[:, i]) - a
        u = _matvec(cor, w)
        v = torch.sqrt(_dot(w, u))[:, None]
        scaled = w / v
        return (scaled if rescale else w, cor, b, s), (scaled * (u / v) - b).abs().amax(dim=1)

    w, n_iter, error = _iterate(sweep, (w, cor, b, s), tol, max_sweeps)
    return _solution(w / sigma, n_iter, error, error < tol)


def ccd_original_batched(
    cov: Tensor,
    budgets: ArrayLike | Tensor | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    signs: ArrayLike | Tensor | None = None,
) -> BatchSolution:
    """Original cyclical coordinate descent on each matrix of a batch.

    Args:
        cov: ``(B, N, N)``, covariances, converted to float64.
        budgets: ``(N,)`` or ``(B, N)``, as for :func:`ccd_improved_batched`.
        tol: Absolute tolerance of the stop rule.
        max_sweeps: Largest number of sweeps.
        signs: ``(N,)`` or ``(B, N)``, as for :func:`ccd_improved_batched`.

    Returns:
        The solutions, in the order of ``cov``.

    Raises:
        ValueError: If an argument is out of its range; the message names the matrix.
    """
    cov, b, s = _prepare(cov, budgets, signs, tol, max_sweeps)
    w = cov.diagonal(dim1=1, dim2=2).rsqrt()
    w = w / w.sum(dim=1, keepdim=True)
    q = _matvec(cov, w)
    v = torch.sqrt(_dot(w, q))

    def sweep(state: State) -> tuple[State, Tensor]:
        w, q, v, cov, b, s = state
        for i in range(w.shape[1]):
            variance = cov[:, i, i]
            a = (q[:, i] - variance * w[:, i]) / 2
            new = (s[:, i] * torch.sqrt(a * a + variance * v * b[:, i]) - a) / variance
            # The row stands for the column, which would be read with a stride of N.
            q.addcmul_(cov[:, i], (new - w[:, i])[:, None])
            w[:, i] = new
            v = torch.sqrt(_dot(w, q))
        return (w, q, v, cov, b, s), (w * q / v[:, None] - b).abs().amax(dim=1)

    w, n_iter, error = _iterate(sweep, (w, q, v, cov, b, s), tol, max_sweeps)
    return _solution(w, n_iter, error, error < tol)


def newton_batched(
    cov: Tensor,
    budgets: ArrayLike | Tensor | None = None,
    *,
    tol: float = 1e-6,
    max_sweeps: int = 1023,
    guess: Guess = "improved",
    method: Literal["pure", "damped"] = "pure",
) -> BatchSolution:
    """Newton's method on each matrix of a batch, with full or with Spinu's damped steps.

    Args:
        cov: ``(B, N, N)``, covariances, converted to float64.
        budgets: ``(N,)`` or ``(B, N)``, as for :func:`ccd_improved_batched`.
        tol: Absolute tolerance on the risk shares.
        max_sweeps: Largest number of steps.
        guess: Starting point, as for ``solvers.newton``.
        method: ``pure`` or ``damped``; MINPACK's hybrid method has no batched form.

    Returns:
        The solutions, in the order of ``cov``.

    Raises:
        ValueError: If an argument is out of its range; the message names the matrix.
    """
    if guess not in ("improved", "plain"):
        raise ValueError(f"guess must be 'improved' or 'plain'; got {guess!r}")
    if method not in ("pure", "damped"):
        raise ValueError(f"method must be 'pure' or 'damped' for a batch; got {method!r}")
    cov, b, _ = _prepare(cov, budgets, None, tol, max_sweeps)
    cor, sigma = _correlations(cov)
    scale = cor.sum(dim=(1, 2)).sqrt()[:, None]
    a = 0.5 * (cor.sum(dim=2) - 1.0) / scale
    w = torch.sqrt(a * a + b) - a if guess == "improved" else (1.0 / scale).expand(b.shape)
    first_phase = torch.full_like(scale, method == "damped", dtype=torch.bool)

    def step(state: State) -> tuple[State, Tensor]:
        w, first_phase, cor, b = state
        f = _matvec(cor, w) - b / w
        # solve_ex: a matrix that has diverged must not stop the others with an exception.
        u, _ = _solve_ex(cor + torch.diag_embed(b / (w * w)), f)
        delta = (u / w).abs().amax(dim=1, keepdim=True)
        first_phase = first_phase & (torch.sqrt(_dot(f, u))[:, None] > FULL_STEP_BELOW)
        shorten = first_phase | (delta >= 1.0) if method == "damped" else first_phase
        w = w - torch.where(shorten, u / (1.0 + delta), u)
        return (w, first_phase, cor, b), _share_error(w, cor, b)

    first = _share_error(w, cor, b)
    w, n_iter, error = _iterate(step, (w, first_phase, cor, b), tol, max_sweeps, first)
    converged = (error < tol) & (w > 0).all(dim=1)
    n_iter = torch.where(converged, n_iter, max_sweeps)
    return _solution(w / sigma, n_iter, error, converged)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(dim=-1)


def _matvec(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.bmm(matrices, vectors[:, :, None])[:, :, 0]


def _share_error(w: Tensor, cov: Tensor, b: Tensor) -> Tensor:
    q = _matvec(cov, w)
    return (w * q / _dot(w, q)[:, None] - b).abs().amax(dim=1)


def _correlations(cov: Tensor) -> tuple[Tensor, Tensor]:
    sigma = cov.diagonal(dim1=1, dim2=2).sqrt()
    return cov / (sigma[:, :, None] * sigma[:, None, :]), sigma


def _iterate(
    sweep: Callable[[State], tuple[State, Tensor]],
    state: State,
    tol: float,
    max_sweeps: int,
    error: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sweep until each matrix has met the stop rule, and keep what it had at its own stop.

    Args:
        sweep: Takes one step of all matrices; returns the new state and the errors, ``(B,)``.
        state: Starting state; may be written to.
        tol: A matrix stops when its error is below.
        max_sweeps: Largest number of sweeps.
        error: Errors of the starting state, if it may be a solution already.

    Returns:
        Weights ``(B, N)`` before normalisation, sweeps ``(B,)``, errors ``(B,)``.
    """
    weights = state[0].clone()
    n_iter = torch.full((len(weights),), max_sweeps, dtype=torch.int64, device=weights.device)
    errors = torch.full_like(weights[:, 0], torch.inf)
    rows = torch.arange(len(weights), device=weights.device)
    running = torch.ones_like(rows, dtype=torch.bool)
    for count in range(0 if error is not None else 1, max_sweeps + 1):
        if count:
            state, error = sweep(state)
        assert error is not None
        stopped = error < tol
        kept = running & (stopped | (count == max_sweeps))
        weights[rows[kept]], errors[rows[kept]] = state[0][kept], error[kept]
        n_iter[rows[kept]] = count
        running = running & ~kept
        left = int(running.sum())
        if left == 0:
            break
        if 2 * left <= len(rows):
            # Drop the finished ones. Not at every sweep, as it copies the matrices.
            state = tuple(part[running] for part in state)
            rows, running = rows[running], running[running]
    return weights, n_iter, errors


def _prepare(
    cov: Tensor,
    budgets: ArrayLike | Tensor | None,
    signs: ArrayLike | Tensor | None,
    tol: float,
    max_sweeps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Checked float64 tensors: ``(B, N, N)``, ``(B, N)`` and ``(B, N)``."""
    check_stopping(tol, max_sweeps)
    if cov.ndim != 3 or cov.shape[1] != cov.shape[2] or 0 in cov.shape:
        raise ValueError(f"cov must be a batch (B, N, N); got shape {tuple(cov.shape)}")
    cov = cov.detach().to(torch.float64)
    for index in torch.nonzero(~_plausible(cov)):
        check_covariance(cov[int(index)].cpu().numpy(), f"cov[{int(index)}]")
    batch, n_assets, _ = cov.shape
    b = _rows(budgets, batch, n_assets, "budgets", check_budgets)
    s = _rows(signs, batch, n_assets, "signs", check_signs)
    return cov, torch.as_tensor(b, device=cov.device), torch.as_tensor(s, device=cov.device)


def _plausible(cov: Tensor) -> Tensor:
    """Which matrices pass all checks, ``(B,)``; the reason for the others is sought on the host."""
    inverse = cov.diagonal(dim1=1, dim2=2).rsqrt()  # NaN or inf for what is no variance
    cor = cov * inverse[:, :, None] * inverse[:, None, :]
    symmetric = ((cor - cor.mT).abs() <= SYMMETRY_TOL).all(dim=2).all(dim=1)
    return cor.isfinite().all(dim=2).all(dim=1) & symmetric & (cor.sum(dim=(1, 2)) > 0)


def _rows(
    value: ArrayLike | Tensor | None,
    batch: int,
    n_assets: int,
    name: str,
    check: Callable[[Any, int, str], np.ndarray[Any, Any]],
) -> np.ndarray[Any, Any]:
    """One checked row of budgets or signs per matrix, ``(B, N)``."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if array is None or np.ndim(array) != 2:
        return np.tile(check(array, n_assets, name), (batch, 1))
    rows = np.asarray(array)
    if len(rows) != batch:
        raise ValueError(f"{name} must have a row per matrix, {batch}; got {len(rows)}")
    return np.stack([check(row, n_assets, f"{name}[{i}]") for i, row in enumerate(rows)])


def _solution(w: Tensor, n_iter: Tensor, error: Tensor, converged: Tensor) -> BatchSolution:
    return BatchSolution(w / w.sum(dim=1, keepdim=True), n_iter, error, converged)
