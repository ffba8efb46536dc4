"""Interface of learners, which choose their own hyperparameters and fit a weighted loss."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Task(StrEnum):
    """Target of a prediction: a conditional mean, or the probability that ``y`` is 1."""

    REGRESSION = "regression"
    PROBABILITY = "probability"


class Role(StrEnum):
    """Purpose of a fit; a learner may tune the two differently."""

    NUISANCE = "nuisance"
    EFFECT = "effect"


class Fitted(Protocol):
    """A fitted model."""

    def predict(self, x: Array) -> Array:
        """Means, or probabilities, ``(n,)``, at the rows of ``x``, ``(n, p)``."""
        ...


class Learner(Protocol):
    """Minimises ``sum_i w_i loss(y_i, f(x_i))`` plus its own penalty; deterministic given rng."""

    def tune(
        self,
        x: Array,
        y: Array,
        *,
        task: Task,
        role: Role,
        rng: np.random.Generator,
        weights: Array | None = None,
        groups: npt.NDArray[np.int64] | None = None,
    ) -> Any:
        """Choose hyperparameters by cross-validation with the weighted loss.

        Args:
            x: ``(n, p)``.
            y: ``(n,)``; 0 or 1 where the task is a probability.
            task: what is predicted.
            role: what the fit is for.
            rng: source of the folds and of candidates.
            weights: ``(n,)``, not negative; ``None`` for 1 each.
            groups: ``(n,)``, rows of one unit have the same number and stay in one fold.

        Returns:
            A setting that :meth:`fit` takes.
        """
        ...

    def fit(
        self, setting: Any, x: Array, y: Array, *, task: Task, weights: Array | None = None
    ) -> Fitted:
        """Fit with a setting that :meth:`tune` gave; the arguments are those of ``tune``."""
        ...


@runtime_checkable
class RLossLearner(Learner, Protocol):
    """A learner that minimises the R-loss as it is, without the division of its weighted form."""

    def fit_r_loss(
        self,
        x: Array,
        residual: Array,
        contrast: Array,
        *,
        rng: np.random.Generator,
        groups: npt.NDArray[np.int64] | None = None,
    ) -> Fitted:
        """Tune and fit ``argmin_t sum_i (residual_i - contrast_i t(x_i))^2``.

        The same minimiser as that of ``tune`` and ``fit`` with outcomes ``residual / contrast`` and
        weights ``contrast^2``, given the same ``rng``.

        Args:
            x: ``(n, p)``.
            residual: ``(n,)``, ``Y - m``.
            contrast: ``(n,)``, ``A - pi``.
            rng: as for :meth:`Learner.tune`.
            groups: as for :meth:`Learner.tune`.
        """
        ...
