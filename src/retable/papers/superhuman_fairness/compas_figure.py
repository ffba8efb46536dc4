"""The figure of COMPAS with noise, as the code of its day made it.

That code (the authors' repository at 975a1cd5, 2023-01-26, which holds the run and its plots)
starts from a fit to as many negative as positive labels, and has a third rule for alpha. Each is an
option here, so that runs can tell what of the figure comes from which.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from retable.papers.superhuman_fairness.alpha import CAP
from retable.papers.superhuman_fairness.baselines import fair_logloss
from retable.papers.superhuman_fairness.baselines.postproc import logistic_regression
from retable.papers.superhuman_fairness.data import halve
from retable.papers.superhuman_fairness.losses import Array
from retable.papers.superhuman_fairness.noise_figures import KeepingSampler, NoiseFigures
from retable.papers.superhuman_fairness.references import References, restandardised
from retable.papers.superhuman_fairness.start import Start
from retable.papers.superhuman_fairness.units import Units
from retable.training.seeds import derive_seed


class CompasFigure(NoiseFigures):
    """The method with what the code had that made the figure of COMPAS with noise.

    Args:
        seed: numbers the repetition.
        balanced_start: whether the start is fitted on as many negative as positive labels.
        alpha_rule: ``penalised`` is the one of the published code, ``mean_loss`` the one before
            (:func:`by_mean_loss`).
        options: those of the base.
    """

    def __init__(
        self,
        *,
        seed: int,
        balanced_start: bool = True,
        alpha_rule: Literal["penalised", "mean_loss"] = "mean_loss",
        **options: Any,
    ) -> None:
        self.balanced_start = balanced_start
        self.mean_loss = alpha_rule == "mean_loss"
        super().__init__(seed=seed, **options)

    def _log_iteration(self, train: Units, references: References, total: float) -> None:
        if self.mean_loss and isinstance(self._sampler, KeepingSampler):
            ours = self._sampler.last.losses
            found = by_mean_loss(self._before, ours, references.losses, lam=self.lam)
            self.alpha.copy_(torch.from_numpy(found))
        super()._log_iteration(train, references, total)

    def _set_start(self, train: Units) -> None:
        if not self.balanced_start:
            super()._set_start(train)
            return
        theta, bias = balanced(train, self.start, derive_seed(self.seed, "start"))
        with torch.no_grad():
            self.theta.copy_(torch.from_numpy(theta))
        self.bias.fill_(bias)


def balanced(train: Units, start: Start, seed: int) -> tuple[Array, float]:
    """Weights ``(d,)`` and bias, fitted on as many negative as positive labels.

    Of a stratified half of the training half some of the more frequent label are left out. The bias
    is a logistic regression's, as are the weights of a start ``logistic``; else they are those of a
    fair log loss with demographic parity, before which the code standardises inputs once more.

    Args:
        train: the training half.
        start: as for :func:`~retable.papers.superhuman_fairness.start.initial`.
        seed: of the half, of what is left out and of the fair log loss's start.
    """
    part = train.at(halve(len(train), derive_seed(seed, "half"), y=train.y)[0])
    order = np.random.default_rng(derive_seed(seed, "balance")).permutation(len(part))
    of_label = [order[part.y[order] == label] for label in (0, 1)]
    n = min(map(len, of_label))
    part = part.at(np.sort(np.concatenate([items[:n] for items in of_label])))
    model = logistic_regression(part.x, part.y)
    bias = float(model.intercept_[0])
    if start == "logistic":
        return np.asarray(model.coef_[0], dtype=np.float64), bias
    again = Units(restandardised(part.x), part.y, part.a)
    return fair_logloss.fit(again, "dp", derive_seed(seed, "fair")).theta[:-1].copy(), bias


def by_mean_loss(
    before: Array, ours: Array, reference: Array, *, lam: float, cap: float = CAP
) -> Array:
    """Inverse margins by the rule of the authors' code at 975a1cd5.

    References are gone through by their own loss ``ft``: alpha becomes ``1 / (ft_m - f_m)``, at
    most ``cap``, where that is positive, until ``mean(f) + lam <= mean(ft_1 ... ft_m)``. Where none
    is positive it is the mean of all alphas of the iteration before.

    Args:
        before: ``(K,)`` of the iteration before.
        ours: ``(N, K)`` losses f; row j belongs to reference j.
        reference: ``(N, K)`` losses ft.
        lam: weight of the penalty.
        cap: largest alpha.

    Returns:
        ``(K,)``.
    """
    order = np.argsort(reference, axis=0, kind="stable")
    f = np.take_along_axis(ours, order, axis=0)
    ft = np.take_along_axis(reference, order, axis=0)
    m = np.arange(1, len(ft) + 1)[:, None]
    ends = f.mean(axis=0) + lam <= np.cumsum(ft, axis=0) / m
    last = np.where(ends.any(axis=0), ends.argmax(axis=0), len(ft) - 1)
    chosen = np.where((ft > f) & (m - 1 <= last), m - 1, -1).max(axis=0)
    columns = np.arange(ft.shape[1])
    margin = ft[chosen, columns] - f[chosen, columns]
    found = np.divide(1.0, margin, out=np.full(margin.shape, cap), where=chosen >= 0)
    return np.where(chosen >= 0, np.minimum(found, cap), before.mean())
