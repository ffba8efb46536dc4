"""The small problems behind the gradient-balancing methods, on the Gram matrix of task gradients.

All take ``K = G G'``, ``(n, n)``, where ``G`` has the gradients ``g_i`` as rows, and give ``(n,)``,
in float64. No tolerance is absolute: they do the same for gradients of any length. ``K`` may be
singular; each says what it does then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_TINY = float(np.finfo(np.float64).tiny)


def min_norm(gram: Array) -> Array:
    """The point of least norm in the convex hull of the gradients: MGDA's weights, exactly.

    Minimises ``w' K w`` over the simplex. Two gradients have the closed form
    ``w_1 = clip(<g_2 - g_1, g_2> / ||g_1 - g_2||^2, 0, 1)``. For more, the minimiser of
    ``u' K u + (1'u - 1)^2`` over ``u >= 0`` is a multiple of it, which the active-set method of
    Lawson and Hanson finds in finitely many steps.

    Args:
        gram: ``(n, n)``. Identical gradients share their weight in some way. The first gradient
            that is zero gets the weight 1.

    Returns:
        Weights ``(n,)``, not negative, of sum 1.
    """
    n, diagonal = len(gram), gram.diagonal()
    if n == 1 or diagonal.min() <= 0:
        return np.eye(n)[int(diagonal.argmin())]
    if n == 2:
        spread = gram[0, 0] + gram[1, 1] - 2 * gram[0, 1]
        first = (gram[1, 1] - gram[0, 1]) / spread if spread > 0 else 0.5
        return np.array([min(max(first, 0.0), 1.0), 1 - min(max(first, 0.0), 1.0)])
    # The shortest gradient is a feasible point: in its units the answer's norm is at most 1. The
    # unknowns are scaled to a diagonal of ones, as lengths of gradients differ by powers of ten.
    matrix = gram / diagonal.min() + 1.0
    scale = 1 / np.sqrt(matrix.diagonal())
    matrix *= np.outer(scale, scale)
    u, free = np.full(n, 1 / n), np.ones(n, dtype=bool)
    for _ in range(10 * n):
        target = _stationary(matrix, scale, free)
        blocked = free & (target < 0)
        if blocked.any():
            steps = np.full(n, np.inf)
            steps[blocked] = u[blocked] / (u[blocked] - target[blocked])
            u += steps.min() * (target - u)
            free &= steps > steps.min()
            u[~free] = 0.0
            continue
        u = target
        slope = np.where(free, -np.inf, scale - matrix @ u)
        if slope.max() <= 1e-12:
            break
        free[slope.argmax()] = True
    weights = u * scale
    return weights / weights.sum()


def _stationary(matrix: Array, right: Array, free: NDArray[np.bool_]) -> Array:
    """Solution of the free rows and columns, zero elsewhere."""
    out = np.zeros(len(right))
    part, wanted = matrix[free][:, free], right[free]
    try:
        out[free] = np.linalg.solve(part, wanted)
        if np.abs(part @ out[free] - wanted).max() < 1e-9:
            return out
    except np.linalg.LinAlgError:
        pass
    out[free] = np.linalg.lstsq(part, wanted)[0]
    return out


def cagrad(gram: Array, c: float) -> Array:
    """Weights of all gradients in CAGrad's direction, ``d = G' (1/n + lambda w) / (1 + c^2)``.

    ``w`` minimises ``<g_w, g_0> + c ||g_0|| ||g_w||`` over the simplex, with ``g_w = G' w`` and the
    mean gradient ``g_0``; ``lambda = c ||g_0|| / ||g_w||``. As
    ``||x|| = min_t (||x||^2 / t + t) / 2``, the weights for a given ``t`` are those of the point of
    least norm among ``g_i + t g_0 / (c ||g_0||)``, and the right ``t = ||g_w||`` is the root of a
    function of one variable that changes its sign once.

    Args:
        gram: ``(n, n)``. A mean gradient of zero gives itself. Where the hull of the gradients
            holds zero, ``||g_w||`` is kept above ``1e-8`` of the longest gradient.
        c: radius of the ball around the mean gradient, in units of its norm.

    Returns:
        Weights ``(n,)``; their sum is ``(1 + lambda) / (1 + c^2)``.
    """
    from scipy.optimize import brentq  # only where the method is used

    n = len(gram)
    mean = np.full(n, 1 / n)
    to_mean = gram @ mean
    top = float(np.sqrt(max(gram.diagonal().max(), 0.0)))
    length = float(np.sqrt(max(mean @ to_mean, 0.0)))
    if c == 0 or length <= 1e-12 * top:
        return mean / (1 + c**2)

    def weights(t: float) -> Array:
        s = t / (c * length)
        return min_norm(gram + s * (to_mean[:, None] + to_mean) + (s * length) ** 2)

    def norm(w: Array) -> float:
        return float(np.sqrt(max(w @ gram @ w, 0.0)))

    def excess(t: float) -> float:
        return t - norm(weights(t))

    lowest = 1e-8 * top
    t: Any = lowest
    if excess(lowest) < 0:
        t = brentq(excess, lowest, top * (1 + 1e-9), xtol=1e-12 * top, rtol=np.float64(1e-10))
    w = weights(float(t))
    return (mean + c * length / max(norm(w), lowest) * w) / (1 + c**2)


def imtl_g(gram: Array) -> Array:
    """IMTL-G's weights: the combination has equal projections on all unit gradients.

    ``alpha_{2..n} = g_1 U' (D U')^-1`` with ``D = g_1 - g_{2..n}`` and ``U = u_1 - u_{2..n}``, and
    ``alpha_1`` completes the sum to 1. Weights may be negative.

    Args:
        gram: ``(n, n)``. A singular system takes its solution of least squares and least norm,
            for identical gradients the first task alone. The unit gradient of zero is zero.

    Returns:
        Weights ``(n,)`` of sum 1.
    """
    norms = np.sqrt(np.maximum(gram.diagonal(), _TINY))
    on_units = gram / norms  # [i, j]: <g_i, u_j>
    differences = on_units[:, :1] - on_units[:, 1:]  # [i, j]: <g_i, u_1 - u_j>
    system = differences[:1] - differences[1:]
    others = np.linalg.lstsq(system.T, differences[0])[0]
    return np.concatenate([[1 - others.sum()], others])


def nash(gram: Array, n_iter: int = 50) -> Array | None:
    """Nash-MTL's bargaining solution: ``alpha_i (K alpha)_i = 1`` for all ``i``, ``alpha > 0``.

    It is the one minimiser of ``alpha' K alpha / 2 - sum log alpha``, a self-concordant function,
    found by damped Newton steps in units where every gradient has norm 1.

    Args:
        gram: ``(n, n)``.
        n_iter: at most so many steps.

    Returns:
        Weights ``(n,)``; None where there is no solution, as some convex combination of the
        gradients is zero (one of them zero, or two opposite), and where the steps did not suffice.
    """
    if gram.diagonal().min() <= 0:
        return None
    norms = np.sqrt(gram.diagonal())
    cosines = gram / np.outer(norms, norms)
    b = np.full(len(gram), np.sqrt(len(gram) / max(cosines.sum(), 1.0)))
    for _ in range(n_iter):
        # In units of b the Hessian is I + diag(b) C diag(b).
        scaled = cosines * np.outer(b, b)
        residual = scaled.sum(1) - 1
        if np.abs(residual).max() < 1e-10:
            return b / norms
        if b.max() > 1e6:  # on its way to infinity
            return None
        step = np.linalg.solve(scaled + np.eye(len(b)), residual)
        decrement = float(np.sqrt(max(step @ residual, 0.0)))
        b = b * (1 - step / (1 + decrement if decrement > 0.25 else 1.0))
    return None


def pcgrad(gram: Array, order: NDArray[np.int64]) -> Array:
    """Weights of all gradients in the sum of PCGrad's projected gradients.

    Every ``g_i`` in turn loses its component along each ``g_j`` that it conflicts with at that
    moment; it stays a combination of the gradients, whose coefficients are kept instead of it.

    Args:
        gram: ``(n, n)``. A gradient of zero conflicts with none.
        order: ``(n, n)``, row ``i`` the order in which ``g_i`` meets all gradients, itself too:
            after projections it may conflict with what it was.

    Returns:
        Weights ``(n,)``.
    """
    rows = np.arange(len(gram))
    mixed = np.eye(len(gram))
    squares = np.maximum(gram.diagonal(), _TINY)
    for met in order.T:
        products = (mixed * gram[met]).sum(1)
        mixed[rows, met] -= np.minimum(products, 0.0) / squares[met]
    return mixed.sum(0)
