"""The closed form of the inverse margins, as in the authors' code."""

from __future__ import annotations

import numpy as np

from retable.papers.superhuman_fairness.losses import Array

CAP = 100.0
"""The largest inverse margin, and the one where no reference is worse than ours."""

LAMBDA = 0.001
"""Weight of ``||alpha||_1`` in the objective."""


def closed_form(ours: Array, reference: Array, *, lam: float = LAMBDA, cap: float = CAP) -> Array:
    """Inverse margin of each measure, given losses of one sample for each reference.

    References are sorted by their own loss ``ft``. The m-th gives the candidate
    ``1 / (ft_m - f_m)``, which makes its subdominance 0, where ``ft_m > f_m``; the search ends at
    the first m with ``f_m + lam <= mean(ft_1 ... ft_m)``, and the last candidate until then is
    taken, at most ``cap``. Where there is none, alpha is ``cap``.

    For one f common to all references, an end that is reached, and ``lam = 0`` this minimises
    ``sum_j [alpha (f - ft_j) + 1]_+`` over alpha.

    Args:
        ours: ``(N, K)`` losses f; row j belongs to reference j.
        reference: ``(N, K)`` losses ft.
        lam: weight of the penalty, not negative.
        cap: largest alpha.

    Returns:
        ``(K,)``.

    Raises:
        ValueError: where shapes differ or there is no reference.
    """
    if ours.shape != reference.shape or ours.ndim != 2 or not len(ours):
        raise ValueError(f"losses {ours.shape} of ours, {reference.shape} of references")
    order = np.argsort(reference, axis=0, kind="stable")
    f = np.take_along_axis(ours, order, axis=0)
    ft = np.take_along_axis(reference, order, axis=0)
    m = np.arange(1, len(ft) + 1)[:, None]
    ends = f + lam <= np.cumsum(ft, axis=0) / m
    last = np.where(ends.any(axis=0), ends.argmax(axis=0), len(ft) - 1)
    candidate = (ft > f) & (m - 1 <= last)
    chosen = np.where(candidate, m - 1, -1).max(axis=0)
    columns = np.arange(ft.shape[1])
    margin = ft[chosen, columns] - f[chosen, columns]
    found = np.divide(1.0, margin, out=np.full(margin.shape, cap), where=chosen >= 0)
    return np.minimum(found, cap)
