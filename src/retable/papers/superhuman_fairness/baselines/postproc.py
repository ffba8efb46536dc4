"""Post-processing of a logistic regression (Hardt et al. 2016): thresholds by group, some random.

fairlearn finds the thresholds: demographic parity equalises the groups' shares of positive
decisions, equalised odds meets a point below both groups' ROC curves.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from retable.papers.superhuman_fairness.losses import Array
from retable.papers.superhuman_fairness.units import Binary, Units

Constraint = Literal["demographic_parity", "equalized_odds"]
Solver = Literal["newton-cg", "newton-cholesky"]

BALANCE_SEED = 1234
"""Of the negatives that go into the balanced subsample, the authors' constant."""


def logistic_regression(x: Array, y: npt.NDArray[Any], solver: Solver = "newton-cholesky") -> Any:
    """The authors' logistic regression (C = 100), a fitted scikit-learn estimator.

    They use newton-cg; newton-cholesky finds the same minimum in a fifth of the time where the
    items far outnumber the features.
    """
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=100, solver=solver, max_iter=1000).fit(x, y)


def balanced(y: npt.NDArray[Any], seed: int = BALANCE_SEED) -> npt.NDArray[np.int64]:
    """Ascending indices of all positives and as many negatives, or all where there are fewer."""
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    count = min(len(positive), len(negative))
    # The generator behind pandas' sample(random_state=...), to draw the negatives the authors draw.
    chosen = np.random.RandomState(seed).choice(len(negative), size=count, replace=False)
    return np.sort(np.concatenate([positive, negative[chosen]]))


class PostProcessed:
    """Logistic regression with thresholds by group.

    Args:
        train: items that both parts are fitted on, the thresholds on the balanced subsample.
        constraint: what the thresholds equalise.
        solver: of the regression.
    """

    def __init__(
        self, train: Units, constraint: Constraint, solver: Solver = "newton-cholesky"
    ) -> None:
        from fairlearn.postprocessing import ThresholdOptimizer

        within = balanced(train.y)
        part = train.at(within)
        for group in (0, 1):
            if len(np.unique(part.y[part.a == group])) < 2:
                raise ValueError(
                    f"post-processing: group {group} of the {len(part)} items that the thresholds"
                    " are fitted on lacks one of the labels; more items or less noise is needed"
                )
        self._thresholds = ThresholdOptimizer(
            estimator=logistic_regression(train.x, train.y, solver),
            constraints=constraint,
            prefit=True,
            predict_method="auto",
        )
        self._thresholds.fit(part.x, part.y, sensitive_features=part.a)

    def decide(self, x: Array, a: npt.NDArray[Any], seed: int) -> Binary:
        """Decisions ``(n,)``; the seed is of those between two thresholds."""
        draws = np.random.RandomState(seed % 2**32)
        found = self._thresholds.predict(x, sensitive_features=a, random_state=draws)
        return np.asarray(found).astype(np.int8)
