"""Random forests, tuned on a random design by racing (extra ``r-learner``).

They stand for the authors' forests, which are those of R's ranger by way of parsnip. The same:
number of trees and minimal node size are tuned, 25 candidates by the racing cross-validation that
LightGBM has, with the weighted loss; every split looks at ``floor(sqrt(p))`` covariates; a tree has
as many rows as the fit, drawn with replacement and, where there are weights, in proportion to them,
so that splits and leaves are unweighted; a probability is the mean of the leaves' shares.

Assumed, and not checked against the R packages: that ranger takes weights so, and the ranges, 1 to
2,000 trees and nodes of 2 to 40 rows. Not known: the design that the released run drew (a random
Latin hypercube here) and the version of ranger. Different: trees are scikit-learn's, which go on to
further covariates where those drawn allow no split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sklearn.tree import DecisionTreeRegressor

from retable.papers.r_learner.learners.base import Array, Role, Task
from retable.papers.r_learner.learners.racing import draw_folds, log_loss, race, squared_loss


@dataclass(frozen=True)
class Setting:
    """``n_trees``; ``min_n``: a node of fewer rows is not split; ``seed``: of rows and splits."""

    n_trees: int
    min_n: int
    seed: int


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose mean is the prediction."""

    trees: list[DecisionTreeRegressor]

    def predict(self, x: Array) -> Array:
        """Means, or probabilities, ``(n,)``, at the rows of ``x``, ``(n, p)``."""
        total = np.zeros(len(x))
        single = x.astype(np.float32)  # what scikit-learn's trees compare
        for tree in self.trees:
            total += tree.predict(single, check_input=False)
        return total / len(self.trees)


def fit_forest(setting: Setting, x: Array, y: Array, weights: Array | None) -> Forest:
    """Grow the trees of a setting.

    A probability needs no other trees: the variance of outcomes 0 and 1 is half their Gini index,
    and the mean in a leaf is the share of 1.

    Args:
        setting: number of trees, size of nodes, seed.
        x: ``(n, p)``.
        y: ``(n,)``.
        weights: ``(n,)``, in proportion to which rows are drawn; ``None`` for 1 each.
    """
    n, p = x.shape
    rng = np.random.default_rng(setting.seed)
    chance = None if weights is None else weights / weights.sum()
    single = x.astype(np.float32)
    trees: list[DecisionTreeRegressor] = []
    for _ in range(setting.n_trees):
        rows = rng.choice(n, n, p=chance)
        tree = DecisionTreeRegressor(
            max_features=max(1, math.isqrt(p)),
            min_samples_split=max(2, setting.min_n),
            random_state=int(rng.integers(2**31)),
        )
        tree.fit(single[rows], y[rows], check_input=False)
        trees.append(tree)
    return Forest(trees)


def draw_design(
    rng: np.random.Generator, size: int, ranges: list[tuple[int, int]]
) -> npt.NDArray[np.int64]:
    """A random Latin hypercube of integers, ``(size, len(ranges))``.

    Every range, ends included, is cut into ``size`` parts of equal length, and each part is hit
    once.
    """
    columns: list[npt.NDArray[np.int64]] = []
    for low, high in ranges:
        place = (rng.permutation(size) + rng.random(size)) / size
        columns.append((low + np.floor(place * (high - low + 1))).astype(np.int64))
    return np.column_stack(columns)


class RandomForest:
    """Random forests with a random design of settings and racing cross-validation.

    Args:
        n_candidates: size of the design, drawn anew in every call of ``tune``.
        trees: fewest and most trees of a candidate.
        min_n: smallest and largest of its minimal node sizes.
        n_folds: folds of the cross-validation.
        burn_in: folds on which every candidate is evaluated.
        alpha: level of the tests that drop candidates.

    Raises:
        ValueError: for a range that is none.
    """

    def __init__(
        self,
        *,
        n_candidates: Annotated[int, Field(ge=1)] = 25,
        trees: tuple[int, int] = (1, 2000),
        min_n: tuple[int, int] = (2, 40),
        n_folds: Annotated[int, Field(ge=2)] = 10,
        burn_in: Annotated[int, Field(ge=2)] = 5,
        alpha: Annotated[float, Field(ge=0, lt=1)] = 0.05,
    ) -> None:
        for name, ends, least in (("trees", trees, 1), ("min_n", min_n, 2)):
            if len(ends) != 2 or not least <= ends[0] <= ends[1]:
                raise ValueError(
                    f"model.learner.{name}: {list(ends)} has to be the least, {least} or more, and"
                    " the most"
                )
        self.n_candidates = n_candidates
        self.ranges = [(trees[0], trees[1]), (min_n[0], min_n[1])]
        self.n_folds, self.burn_in, self.alpha = n_folds, burn_in, alpha

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
    ) -> Setting:
        """Choose a candidate; draws the design, then the folds. See ``Learner.tune``."""
        design = draw_design(rng, self.n_candidates, self.ranges)
        seeds = rng.integers(2**62, size=len(design))
        candidates = [
            Setting(int(trees), int(size), int(seed))
            for (trees, size), seed in zip(design, seeds, strict=True)
        ]
        folds = draw_folds(rng, len(x), self.n_folds, groups)
        measure = log_loss if task is Task.PROBABILITY else squared_loss

        def losses(fold: int, chosen: npt.NDArray[np.int64]) -> Array:
            held = folds == fold
            inside = None if weights is None else weights[~held]
            outside = None if weights is None else weights[held]
            forests = (fit_forest(candidates[j], x[~held], y[~held], inside) for j in chosen)
            predicted = np.stack([forest.predict(x[held]) for forest in forests])
            return measure(predicted, y[held], outside)

        count = int(folds.max()) + 1
        burn_in = min(self.burn_in, count)
        return candidates[race(losses, len(candidates), count, burn_in, self.alpha)]

    def fit(
        self, setting: Setting, x: Array, y: Array, *, task: Task, weights: Array | None = None
    ) -> Forest:
        """Grow the candidate's trees on all rows. See ``Learner.fit``."""
        return fit_forest(setting, x, y, weights)
