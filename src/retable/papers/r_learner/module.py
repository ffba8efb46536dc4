"""One run: all rows on one simulated data set, against the true effect of fresh units."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from retable.papers.base import PaperModule
from retable.papers.r_learner.crossfit import Units
from retable.papers.r_learner.data import Problem
from retable.papers.r_learner.estimate import estimate, nuisance_losses
from retable.papers.r_learner.learners.base import Learner
from retable.papers.r_learner.por import CLIP
from retable.papers.r_learner.rows import ROWS, parse


class RLearner(PaperModule):
    """Estimate the effect by every row and measure the errors.

    Results per row: ``test/cate_mse``, the mean of ``(tau_hat - tau)^2`` over the test units, and
    ``test/ate_error``, the mean of ``tau_hat - tau``. Results of the run: the losses of
    :func:`~retable.papers.r_learner.estimate.nuisance_losses` as ``test/<name>``.

    Args:
        seed: the run's seed; folds and tuning derive theirs from it.
        learner: a ``Learner``, for nuisances and effects.
        rows: names of rows; all 14 where left out.
        order: of cross-fitting.
        folds: of cross-fitting of order 2.
        clip: propensities are kept in ``[clip, 1 - clip]``.
    """

    def __init__(
        self,
        *,
        seed: int,
        learner: Any,
        rows: list[str] | None = None,
        order: Literal[2, 3, 4] = 2,
        folds: Annotated[int, Field(ge=2)] = 10,
        clip: Annotated[float, Field(ge=0, lt=0.5)] = CLIP,
    ) -> None:
        self.rows = list(ROWS) if rows is None else rows
        for name in self.rows:
            try:
                parse(name)
            except ValueError as error:
                raise ValueError(f"model.rows: {error}") from None
        if not self.rows or len(set(self.rows)) < len(self.rows):
            raise ValueError(f"model.rows: {self.rows} has to name rows, each once")
        self.learner: Learner = learner
        self.order, self.folds, self.clip = order, folds, clip
        super().__init__(seed=seed)

    def test_step(self, batch: Problem, batch_idx: int) -> None:
        """Estimate and record."""
        x, a, y, x_test, tau_test = (part.cpu().numpy() for part in batch)
        units = Units(x, a, y)
        found = estimate(
            units,
            self.rows,
            self.learner,
            self.seed,
            order=self.order,
            folds=self.folds,
            bound=self.clip,
        )
        for row, effect in found.effects.items():
            error = effect.predict(x_test) - tau_test
            self.add_result("test/cate_mse", float(np.mean(error**2)), row)
            self.add_result("test/ate_error", float(np.mean(error)), row)
        for name, loss in nuisance_losses(units, found.cross).items():
            self.add_result(f"test/{name}", loss)
