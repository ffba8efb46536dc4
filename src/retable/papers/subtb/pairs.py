"""Laplacians of the weights lambda^(k - m) between the states of a trajectory.

For weights ``w(m, k)`` of the pairs ``m < k <= n`` the weighted sum of ``(u_m - u_k)^2`` is
``sum_m u_m (L u)_m`` with ``(L u)_m = sum_k w(m, k) (u_m - u_k)``. Three ways to the same ``L u``:

- a product with the Toeplitz matrix of the weights, O(T^2);
- for lambda <= 1 two first-order recursions, ``p_k = lambda (p_{k-1} + u_{k-1})`` and the same from
  the end, O(T); taken in blocks, since a Python loop over single steps costs more than the sums;
- for lambda > 1 cumulative sums, O(T): with ``mu = 1 / lambda`` the weight over the largest one is
  ``lambda^(k - m - n) = mu^m mu^(n - k)``, a product of two factors none of which can overflow.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

BLOCK = 64
"""Steps that the recursion takes at once."""


def laplacian(
    u: Tensor,
    real: Tensor,
    lengths: Tensor,
    lam: float,
    *,
    form: str,
    max_length: int | None = None,
    by_length: bool = False,
) -> tuple[Tensor, Tensor]:
    """``L u`` and the sum of the weights, per trajectory.

    Weights are lambda^(k-m-1) for lambda <= 1, else lambda^(k-m-n), n the largest length that
    counts: at most one. ``by_length``
    divides by the number of the batch's subtrajectories of the same length, and then for
    lambda > 1 the power is taken against the longest trajectory.

    Args:
        u: ``(B, T + 1)``, float64, 0 in the padding.
        real: ``(B, T + 1)``, true up to and with each trajectory's end.
        lengths: ``(B,)``.
        lam: lambda.
        form: ``recursion`` or ``matrix``.
        max_length: of the subtrajectories that count.
        by_length: see above; always by matrix.

    Returns:
        ``(B, T + 1)`` and ``(B,)``, float64.
    """
    if lam > 1 and not by_length:
        sums, degree = _separable(u, lengths, lam, form, max_length)
    else:
        size = u.shape[1]
        if by_length:
            weights = _by_length(lengths, size - 1, lam, max_length)
        else:
            weights = _powers(size, lam, max_length, u.device)
        if form == "matrix" or by_length:
            table = _toeplitz(weights) if by_length else _matrix(size, lam, max_length, u.device)
            sums = u @ table
        else:
            sums = _recursion(u, lam)
        # A state has as many partners before it as its number, after it as there are steps left.
        step = torch.arange(size, device=u.device)
        reach = weights.cumsum(0)
        degree = reach + reach[(lengths.unsqueeze(1) - step).clamp(min=0)]
    degree = torch.where(real, degree, 0.0)
    return degree * u - torch.where(real, sums, 0.0), degree.sum(1) / 2


def relative_unit(
    lengths: Tensor, lam: float, *, max_length: int | None = None, by_length: bool = False
) -> Tensor:
    """Each trajectory's unit of weight over the longest one's, ``(B,)``."""
    if lam <= 1 or by_length:
        return torch.ones_like(lengths, dtype=torch.float64)
    reach = lengths if max_length is None else lengths.clamp(max=max_length)
    return _power(1 / lam, reach.max() - reach)


def _power(base: float, exponent: Tensor) -> Tensor:
    """``base^exponent`` in double precision, with ``0^0 = 1``."""
    return torch.pow(
        torch.tensor(base, dtype=torch.float64, device=exponent.device), exponent.double()
    )


def _toeplitz(weights: Tensor) -> Tensor:
    """Symmetric matrix ``(T + 1, T + 1)`` of the weight at each distance."""
    steps = torch.arange(len(weights), device=weights.device)
    return weights[(steps.unsqueeze(1) - steps).abs()]


@lru_cache(maxsize=256)
def _powers(size: int, lam: float, max_length: int | None, device: torch.device) -> Tensor:
    """lambda^(j-1) at each distance ``j``, 0 at 0 and beyond ``max_length``."""
    distance = torch.arange(size, device=device)
    weights = torch.where(distance > 0, _power(lam, (distance - 1).clamp(min=0)), 0.0)
    if max_length is not None:
        weights[max_length + 1 :] = 0
    return weights


@lru_cache(maxsize=256)
def _matrix(size: int, lam: float, max_length: int | None, device: torch.device) -> Tensor:
    return _toeplitz(_powers(size, lam, max_length, device))


def _by_length(lengths: Tensor, steps: int, lam: float, max_length: int | None) -> Tensor:
    """Weight at each distance, lambda^j over the number of subtrajectories of that length."""
    length = torch.arange(steps + 1, device=lengths.device)
    count = (lengths.unsqueeze(1) - length + 1).clamp(min=0).sum(0)
    longest = int(lengths.max()) if max_length is None else min(int(lengths.max()), max_length)
    power = (
        _power(lam, (length - 1).clamp(min=0))
        if lam <= 1
        else _power(1 / lam, (longest - length).clamp(min=0))
    )
    counts = (length > 0) & (length <= longest)
    return torch.where(counts, power / count.clamp(min=1), 0.0)


def _recursion(x: Tensor, lam: float) -> Tensor:
    """``sum_{m != k} lambda^(|k-m|-1) x_m`` for lambda <= 1, block by block."""
    size = x.shape[1]
    block = min(BLOCK, size)
    within = _matrix(block, lam, None, x.device)
    # What all before a block adds to its entry i, lambda^i times the sum carried so far.
    decay = _power(lam, torch.arange(block, device=x.device))
    found = torch.empty_like(x)
    for start in range(0, size, block):
        part = x[:, start : start + block]
        n = part.shape[1]
        torch.mm(part, within[:n, :n], out=found[:, start : start + n])
    for backwards in (False, True):
        starts = range(0, size, block)
        carried: Tensor | None = None
        for start in reversed(starts) if backwards else starts:
            part = x[:, start : start + block]
            n = part.shape[1]
            reach = decay[:n].flip(0) if backwards else decay[:n]
            if carried is not None:
                found[:, start : start + n] += carried.unsqueeze(1) * reach
            own = part @ (decay[:n] if backwards else decay[:n].flip(0))
            carried = own if carried is None else own + carried * lam**n
    return found


def _separable(
    u: Tensor, lengths: Tensor, lam: float, form: str, max_length: int | None
) -> tuple[Tensor, Tensor]:
    """``sum_{m != k} lambda^(|k-m|-n) u_m`` for lambda > 1 and the same of ones, ``(B, T + 1)``."""
    step = torch.arange(u.shape[1], device=u.device)
    if max_length is None:
        start = _power(1 / lam, step)
        end = _power(1 / lam, (lengths.unsqueeze(1) - step).clamp(min=0))
        end = torch.where(step <= lengths.unsqueeze(1), end, 0.0)
        if form == "recursion":
            return _cumulative(u, start, end), _cumulative(torch.ones_like(u), start, end)
        upper = torch.where(step > step.unsqueeze(1), start.unsqueeze(1) * end.unsqueeze(1), 0.0)
    else:
        # Against the longest that counts: against the whole trajectory all might underflow.
        distance = step - step.unsqueeze(1)
        reach = lengths.clamp(max=max_length).view(-1, 1, 1)
        counts = (distance > 0) & (distance <= reach) & (step <= lengths.view(-1, 1, 1))
        upper = torch.where(counts, _power(1 / lam, (reach - distance).clamp(min=0)), 0.0)
    both = upper + upper.transpose(1, 2)
    return torch.bmm(both, u.unsqueeze(2)).squeeze(2), both.sum(2)


def _cumulative(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Weighted sums over all before and all behind each entry."""
    left, right = x * start, x * end
    before = left.cumsum(1) - left
    behind = right.sum(1, keepdim=True) - right.cumsum(1)
    return end * before + start * behind
