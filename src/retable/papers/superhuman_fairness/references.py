"""Reference decision sets: what the method is to dominate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retable.papers.superhuman_fairness.baselines import fair_logloss, postproc
from retable.papers.superhuman_fairness.data import halve
from retable.papers.superhuman_fairness.losses import Array, Index, losses
from retable.papers.superhuman_fairness.units import Binary, Units
from retable.training.seeds import derive_seed

Maker = Callable[[Units, Units, int], Binary]
"""``(items to fit on, items to decide on, seed) -> decisions (m,)``, without a look at labels of
the latter."""


@dataclass(frozen=True, eq=False)
class References:
    """N reference decision sets.

    Attributes:
        index: ``(N, m)`` items of the training half that each set decides on.
        losses: ``(N, 4)`` of each set, in the order of the measures.
    """

    index: Index
    losses: Array


def make_references(
    maker: Maker,
    train: Units,
    n: int,
    noise: float,
    seed: int,
    *,
    flip_decisions: bool = True,
) -> References:
    """Fit a maker on a random half of the items and let it decide on the other, n times.

    Noise flips a share of the labels that the maker is fitted on, a share of the groups of the
    items that it decides on, and a share of its decisions. The losses of a set are by the noisy
    groups and the true labels.

    Args:
        maker: one of :data:`MAKERS`.
        train: the training half.
        n: number of sets.
        noise: share that is flipped, in [0, 1).
        seed: of this collection; the splits, flips and draws of each set follow from it.
        flip_decisions: whether decisions are flipped too. The stored references for COMPAS at
            noise 0.2 are those without.

    Raises:
        ValueError: for a share outside [0, 1), or where a maker cannot be fitted.
    """
    if not 0 <= noise < 1:
        raise ValueError(f"noise: {noise} is no share in [0, 1)")
    if n < 1:
        raise ValueError(f"n: {n} reference sets; at least 1 is needed")
    index: list[Index] = []
    decisions: list[Binary] = []
    groups: list[Binary] = []
    for j in range(n):
        fitted, decided = halve(len(train), derive_seed(seed, "split", j), y=train.y)
        fit, decide = train.at(fitted), train.at(decided)
        rng = np.random.default_rng(derive_seed(seed, "noise", j))
        fit = Units(fit.x, flip(fit.y, noise, rng), fit.a)
        decide = Units(decide.x, decide.y, flip(decide.a, noise, rng))
        made = maker(fit, decide, derive_seed(seed, "maker", j))
        index.append(decided)
        decisions.append(flip(made, noise, rng) if flip_decisions else made)
        groups.append(decide.a)
    items = np.stack(index)
    return References(items, losses(np.stack(decisions), train.y[items], np.stack(groups)))


def flip(values: Binary, share: float, rng: np.random.Generator) -> Binary:
    """Values ``(n,)`` with ``floor(share n)`` of them flipped."""
    chosen = rng.permutation(len(values))[: int(share * len(values))]
    flipped = values.copy()
    flipped[chosen] = 1 - flipped[chosen]
    return flipped


def post_proc_dp(fit: Units, decide: Units, seed: int) -> Binary:
    """Post-processing to demographic parity."""
    return postproc.PostProcessed(fit, "demographic_parity").decide(decide.x, decide.a, seed)


def post_proc_eqodds(fit: Units, decide: Units, seed: int) -> Binary:
    """Post-processing to equalised odds."""
    return postproc.PostProcessed(fit, "equalized_odds").decide(decide.x, decide.a, seed)


def fair_logloss_eqopp(fit: Units, decide: Units, seed: int) -> Binary:
    """Fair log loss under equal opportunity."""
    return fair_logloss.fit(fit, "eqopp", seed).decide(decide.x, decide.a)


def fair_logloss_eqopp_shifted(fit: Units, decide: Units, seed: int) -> Binary:
    """Fair log loss under equal opportunity as the code runs it on COMPAS.

    It subtracts 1 from every set's group code, which is meant for codes 1 and 2. Codes 0 and 1
    become -1 and 0: no item is in cell 1, cell 0 holds group 1, and lambda is infinite. All items
    of group 1 are lifted to certainty given a positive label, and group 0 is not constrained.
    """
    x, decided = restandardised(fit.x), decide.x
    shifted = fair_logloss.fit_arrays(x, fit.y, fit.a - 1, "eqopp", seed, vacuous=np.inf)
    return shifted.decide(decided, decide.a - 1)


def fair_logloss_eqopp_restandardised(fit: Units, decide: Units, seed: int) -> Binary:
    """Fair log loss under equal opportunity as the code runs it on Adult.

    The items that it is fitted on are standardised once more, those that it decides on are not:
    for a group coded 1 and 2 among the inputs the two do not fit together.
    """
    x = restandardised(fit.x)
    return fair_logloss.fit_arrays(x, fit.y, fit.a, "eqopp", seed).decide(decide.x, decide.a)


def restandardised(x: Array) -> Array:
    """Columns that leave [0, 1] standardised, twice by the mean and deviation before the first."""
    wide = (x.min(axis=0) < 0) | (x.max(axis=0) > 1)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    wide &= deviation > 0
    mean, deviation = np.where(wide, mean, 0.0), np.where(wide, deviation, 1.0)
    return ((x - mean) / deviation - mean) / deviation


MAKERS: dict[str, Maker] = {
    "post_proc_dp": post_proc_dp,
    "post_proc_eqodds": post_proc_eqodds,
    "fair_logloss_eqopp": fair_logloss_eqopp,
    "fair_logloss_eqopp_shifted": fair_logloss_eqopp_shifted,
    "fair_logloss_eqopp_restandardised": fair_logloss_eqopp_restandardised,
}
"""Makers by name, as ``model.references`` has it."""
