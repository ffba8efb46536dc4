"""Where the fit starts: weights and the bias, which never changes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from retable.papers.superhuman_fairness.baselines import fair_logloss
from retable.papers.superhuman_fairness.baselines.postproc import logistic_regression
from retable.papers.superhuman_fairness.data import halve
from retable.papers.superhuman_fairness.losses import Array
from retable.papers.superhuman_fairness.units import Units
from retable.training.seeds import derive_seed

Start = Literal["logistic", "fair_logloss_dp"]


def initial(train: Units, start: Start, seed: int) -> tuple[Array, float]:
    """Weights ``(d,)`` and bias, fitted on a stratified half of the training half.

    ``logistic`` is the authors' logistic regression. ``fair_logloss_dp`` keeps its bias but takes
    the weights of a fair log loss with demographic parity without that one's own bias, as their
    code does for COMPAS.

    Args:
        train: the training half.
        start: as above.
        seed: of the half and of the fair log loss's start.
    """
    part = train.at(halve(len(train), derive_seed(seed, "half"), y=train.y)[0])
    model = logistic_regression(part.x, part.y)
    theta = np.asarray(model.coef_[0], dtype=np.float64)
    if start == "fair_logloss_dp":
        theta = fair_logloss.fit(part, "dp", derive_seed(seed, "fair")).theta[:-1].copy()
    return theta, float(model.intercept_[0])
