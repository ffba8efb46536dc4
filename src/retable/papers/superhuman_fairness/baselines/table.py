"""The baselines by name: decisions or expected losses on both halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from retable.papers.superhuman_fairness.baselines import fair_logloss, postproc
from retable.papers.superhuman_fairness.losses import MEASURES, Array, losses
from retable.papers.superhuman_fairness.references import flip
from retable.papers.superhuman_fairness.units import Units
from retable.training.seeds import derive_seed

REPLACED = {"dp": "dp", "eqodds": "eqodds"}
"""Measure that a fair log loss reports as its expected violation, by constraint."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Losses ``(4,)`` of a baseline on both halves, by true labels and groups."""

    train: Array
    test: Array


Baseline = Callable[[Units, Units, float, int], Measured]
"""``(training half, test half, noise, seed) -> losses``."""


def noisy(train: Units, noise: float, seed: int) -> Units:
    """The training half with a share of its labels and a share of its groups flipped.

    The same for all baselines of a seed. Inputs keep the true group.
    """
    rng = np.random.default_rng(derive_seed(seed, "baseline noise"))
    y = flip(train.y, noise, rng)
    return Units(train.x, y, flip(train.a, noise, rng))


def post_processing(
    constraint: postproc.Constraint, train: Units, test: Units, noise: float, seed: int
) -> Measured:
    """Losses of post-processed decisions."""
    fitted = postproc.PostProcessed(noisy(train, noise, seed), constraint)
    found = [
        losses(fitted.decide(half.x, half.a, derive_seed(seed, "draw", name)), half.y, half.a)[0]
        for name, half in (("train", train), ("test", test))
    ]
    return Measured(*found)


def robust_log_loss(
    constraint: fair_logloss.Constraint, train: Units, test: Units, noise: float, seed: int
) -> Measured:
    """Losses of a fair log loss: the expected error and violation, else of rounded decisions."""
    start = derive_seed(seed, "start", constraint)
    fitted = fair_logloss.fit(noisy(train, noise, seed), constraint, start)
    return Measured(*(_expected(fitted, constraint, half) for half in (train, test)))


def _expected(
    fitted: fair_logloss.FairLogLoss, constraint: fair_logloss.Constraint, half: Units
) -> Array:
    found = losses(fitted.decide(half.x, half.a), half.y, half.a)[0]
    found[MEASURES.index("error")] = fitted.expected_error(half)
    if constraint in REPLACED:
        found[MEASURES.index(REPLACED[constraint])] = fitted.violation(half)
    return found


BASELINES: dict[str, Baseline] = {
    "post_proc_dp": partial(post_processing, "demographic_parity"),
    "post_proc_eqodds": partial(post_processing, "equalized_odds"),
    "fair_logloss_dp": partial(robust_log_loss, "dp"),
    "fair_logloss_eqodds": partial(robust_log_loss, "eqodds"),
    "fair_logloss_eqopp": partial(robust_log_loss, "eqopp"),
}
"""Baselines by the name of their result row."""
