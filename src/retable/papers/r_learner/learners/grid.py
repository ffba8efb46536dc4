"""The paper's random grid of LightGBM candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retable.papers.r_learner.learners.base import Array

_STEPS = 20


@dataclass(frozen=True)
class Candidate:
    """One setting of LightGBM, all other parameters at its defaults.

    Attributes:
        n_trees: ``num_iterations``.
        rate: ``learning_rate``.
        leaves: ``num_leaves``.
        bagging: ``bagging_fraction``, drawn by the authors but without effect, since
            ``bagging_freq`` stays 0.
        min_data: ``min_data_in_leaf``.
        min_gain: ``min_gain_to_split``.
    """

    n_trees: int
    rate: float
    leaves: int
    bagging: float
    min_data: int
    min_gain: float


def marginals() -> dict[str, Array]:
    """The 20 values of each parameter, ``(20,)`` each, in the order of :class:`Candidate`."""
    return {
        "n_trees": np.round(np.geomspace(10, 1000, _STEPS)),
        "rate": np.geomspace(1e-5, 0.25, _STEPS),
        "leaves": np.round(np.geomspace(2, 50, _STEPS)),
        "bagging": np.linspace(0.1, 1.0, _STEPS),
        "min_data": np.round(np.geomspace(10, 50, _STEPS)),
        "min_gain": np.geomspace(1e-10, 1e-2, _STEPS),
    }


def draw_grid(rng: np.random.Generator, size: int = 25) -> list[Candidate]:
    """Draw ``size`` candidates, each parameter by itself and with replacement; drop duplicates."""
    drawn = {name: rng.choice(values, size) for name, values in marginals().items()}
    candidates = [
        Candidate(
            n_trees=int(drawn["n_trees"][i]),
            rate=float(drawn["rate"][i]),
            leaves=int(drawn["leaves"][i]),
            bagging=float(drawn["bagging"][i]),
            min_data=int(drawn["min_data"][i]),
            min_gain=float(drawn["min_gain"][i]),
        )
        for i in range(size)
    ]
    return list(dict.fromkeys(candidates))
