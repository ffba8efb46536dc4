"""Subdominance: how far decisions are from dominating references, and how many they dominate."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from retable.papers.superhuman_fairness.losses import Array

Kind = Literal["absolute", "relative"]

SMALLEST = 1e-6
"""The least reference loss that a relative subdominance divides by."""


def subdominance(ours: Array, reference: Array, alpha: Array, kind: Kind = "absolute") -> Array:
    """Subdominance per measure; 0 where ours is better by the margin ``1 / alpha`` at least.

    ``absolute``: ``[alpha (f - ft) + 1]_+``; ``relative``: ``[alpha (f / ft - 1) + 1]_+``
    (Ziebart et al. 2022), whose denominator is at least :data:`SMALLEST`. Either bounds the
    indicator of ``f > ft`` from above, whatever alpha.

    Args:
        ours: losses f, ``(N, K)`` or ``(K,)``.
        reference: losses ft, ``(N, K)``.
        alpha: ``(K,)`` inverse margins, not negative.
        kind: which of the two.

    Raises:
        ValueError: for a negative alpha.
    """
    if (alpha < 0).any():
        raise ValueError(f"alpha {alpha}: an inverse margin is negative")
    excess = ours - reference
    if kind == "relative":
        excess = excess / np.maximum(reference, SMALLEST)
    return np.maximum(alpha * excess + 1, 0)


def dominates(ours: Array, reference: Array) -> npt.NDArray[np.bool_]:
    """Whether ours is at most the reference's loss, per measure: ties count. ``(N, K)``."""
    return np.atleast_2d(ours) <= reference


def gamma_per_measure(ours: Array, reference: Array) -> Array:
    """Share of references matched or beaten on each measure, ``(K,)``.

    Args:
        ours: ``(K,)`` losses of one decision vector, or one row for each reference.
        reference: ``(N, K)``.
    """
    return dominates(ours, reference).mean(axis=0)


def gamma_joint(ours: Array, reference: Array) -> float:
    """Share of references matched or beaten on all measures at once; arguments as above."""
    return float(dominates(ours, reference).all(axis=1).mean())


def support(parts: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """References that are a support vector of any measure, ``(N,)``, from subdominances ``(N, K)``.

    ``1 - mean(support)`` bounds the expected joint gamma on fresh references from below
    (leave-one-out argument of the paper).
    """
    return np.asarray((parts > 0).any(axis=1))
