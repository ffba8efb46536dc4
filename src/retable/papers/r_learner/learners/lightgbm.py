"""The paper's learner: LightGBM, tuned on a random grid by racing (extra ``r-learner``).

Nearly all the time goes into the cross-validation, where each of thousands of fits takes longer to
set up than to compute. By default it is done by :mod:`.boosting`, whose fits are those of LightGBM,
and so are the chosen candidate's predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import lightgbm
import numpy as np
import numpy.typing as npt
from pydantic import Field

from retable.papers.r_learner.learners.base import Array, Fitted, Role, Task
from retable.papers.r_learner.learners.grid import Candidate, draw_grid
from retable.papers.r_learner.learners.racing import draw_folds, log_loss, race, squared_loss

Engine = Literal["compiled", "lightgbm"]


def parameters(candidate: Candidate, task: Task) -> dict[str, Any]:
    """LightGBM's parameters to fit a candidate; all others are at their defaults."""
    return {
        "objective": "binary" if task is Task.PROBABILITY else "regression",
        "num_iterations": candidate.n_trees,
        "learning_rate": candidate.rate,
        "num_leaves": candidate.leaves,
        "bagging_fraction": candidate.bagging,
        "min_data_in_leaf": candidate.min_data,
        "min_gain_to_split": candidate.min_gain,
        "num_threads": 1,
        "verbosity": -1,
    }


@dataclass(frozen=True)
class Boosted:
    """A fitted model.

    Attributes:
        booster: LightGBM's own.
    """

    booster: lightgbm.Booster

    def predict(self, x: Array) -> Array:
        """Means, or probabilities, ``(n,)``, at the rows of ``x``, ``(n, p)``."""
        return np.asarray(self.booster.predict(x, num_threads=1), np.float64)


@dataclass(frozen=True)
class Compiled:
    """A candidate and what it is fitted to: the trees are grown along with the rows to predict.

    Attributes:
        candidate: the setting.
        x: ``(n, p)``.
        y: ``(n,)``.
        task: what is predicted.
        weights: ``(n,)``, or ``None`` for 1 each.
    """

    candidate: Candidate
    x: Array
    y: Array
    task: Task
    weights: Array | None

    def predict(self, x: Array) -> Array:
        """As :meth:`Boosted.predict`, to the last bit."""
        if not np.isfinite(x).all():
            return fit_trees(self.candidate, self.x, self.y, self.task, self.weights).predict(x)
        from retable.papers.r_learner.learners.boosting import fold as compiled

        found = compiled.predictions([self.candidate], self.x, self.y, x, self.task, self.weights)
        return found[0]


def fit_trees(
    candidate: Candidate, x: Array, y: Array, task: Task, weights: Array | None
) -> Boosted:
    """Fit one candidate.

    Args:
        candidate: the setting.
        x: ``(n, p)``.
        y: ``(n,)``; 0 or 1 where the task is a probability.
        task: what is predicted.
        weights: ``(n,)``, or ``None`` for 1 each.
    """
    data = lightgbm.Dataset(x, y, weight=weights)
    return Boosted(lightgbm.train(parameters(candidate, task), data))


def train_each(
    candidates: list[Candidate], seen: Array, y: Array, held: Array, task: Task,
    weights: Array | None,
) -> Array:  # fmt: skip
    """Predict as :func:`.boosting.fold.predictions`, by LightGBM, one candidate after another."""
    fits = (fit_trees(candidate, seen, y, task, weights) for candidate in candidates)
    return np.stack([fit.predict(held) for fit in fits])


def fold_losses(
    candidates: list[Candidate],
    folds: npt.NDArray[np.int64],
    x: Array,
    y: Array,
    task: Task,
    weights: Array | None,
    engine: Engine = "compiled",
) -> Callable[[int, npt.NDArray[np.int64]], Array]:
    """The losses of some candidates in a fold, for :func:`.racing.race`.

    The weights are those of the fit. What the compiled engine does not do, such as a fold with one
    class only, LightGBM does.
    """
    measure = log_loss if task is Task.PROBABILITY else squared_loss

    def losses(fold: int, chosen: npt.NDArray[np.int64]) -> Array:
        held = folds == fold
        inside = None if weights is None else weights[~held]
        outside = None if weights is None else weights[held]
        predict = train_each
        if engine == "compiled":
            # Imported late: numba is slow to load, and a config is checked without it.
            from retable.papers.r_learner.learners.boosting import fold as compiled

            if compiled.within_reach(x, y[~held], task, inside):
                predict = compiled.predictions
        some = [candidates[j] for j in chosen]
        predicted = predict(some, x[~held], y[~held], x[held], task, inside)
        return measure(predicted, y[held], outside)

    return losses


@dataclass(frozen=True)
class LightGBM:
    """LightGBM with the paper's grid and racing cross-validation.

    Attributes:
        n_candidates: size of the random grid, drawn anew in every call of ``tune``.
        n_folds: folds of the cross-validation.
        burn_in: folds on which every candidate is evaluated.
        alpha: level of the tests that drop candidates.
        engine: what fits in the cross-validation: ``compiled``, or ``lightgbm``, which comes to the
            same and is slower.
    """

    n_candidates: Annotated[int, Field(ge=1)] = 25
    n_folds: Annotated[int, Field(ge=2)] = 10
    burn_in: Annotated[int, Field(ge=2)] = 5
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.05
    engine: Literal["compiled", "lightgbm"] = "compiled"

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
    ) -> Candidate:
        """Choose a candidate; draws the grid, then the folds. See ``Learner.tune``."""
        candidates = draw_grid(rng, self.n_candidates)
        folds = draw_folds(rng, len(x), self.n_folds, groups)
        winner = race(
            fold_losses(candidates, folds, x, y, task, weights, self.engine),
            len(candidates),
            int(folds.max()) + 1,
            min(self.burn_in, int(folds.max()) + 1),
            self.alpha,
        )
        return candidates[winner]

    def fit(
        self, setting: Candidate, x: Array, y: Array, *, task: Task, weights: Array | None = None
    ) -> Fitted:
        """Fit the candidate on all rows. See ``Learner.fit``."""
        if self.engine == "compiled":
            from retable.papers.r_learner.learners.boosting import fold as compiled

            if compiled.within_reach(x, y, task, weights):
                return Compiled(setting, x, y, task, weights)
        return fit_trees(setting, x, y, task, weights)
