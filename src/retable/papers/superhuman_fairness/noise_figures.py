"""The two figures of gamma against noise, as the code of their day made them.

That of fair log loss was made with noise of the decisions alone and another rule for alpha; that of
post-processing seems to have been scored against the references of the other (the authors'
repository at 085c2c9f, 2023-01-20, an hour or so before the figures). Each is an option here, so
that runs can tell which of them a figure follows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from retable.papers.superhuman_fairness.alpha import CAP
from retable.papers.superhuman_fairness.data import Halves
from retable.papers.superhuman_fairness.gradient import Sample, Sampler
from retable.papers.superhuman_fairness.losses import MEASURES, Array
from retable.papers.superhuman_fairness.module import SuperhumanFairness
from retable.papers.superhuman_fairness.references import (
    MAKERS,
    Maker,
    References,
    flip,
    make_references,
)
from retable.papers.superhuman_fairness.subdominance import gamma_per_measure
from retable.papers.superhuman_fairness.units import Binary, Units
from retable.training.seeds import derive_seed


class KeepingSampler(Sampler):
    """A sampler that remembers what it has drawn last."""

    last: Sample

    def measure(self, decisions: NDArray[np.bool_]) -> Sample:
        """As the other's."""
        self.last = super().measure(decisions)
        return self.last


class NoiseFigures(SuperhumanFairness):
    """The method with what the code had that made the figures.

    Result beside those of the base: ``test/gamma_other`` for each measure, the shares of another
    collection's references that ours match or beat on the training half.

    Args:
        seed: numbers the repetition.
        noise_on: what noise flips: labels, groups and decisions, or decisions alone.
        alpha_rule: ``penalised`` is the one of the published code, ``averaged`` the one before
            (:func:`averaged`).
        scored_against: maker of another collection, with noise of the decisions alone, whose
            references ours are compared with in the end; none where left out.
        options: those of the base.
    """

    def __init__(
        self,
        *,
        seed: int,
        noise_on: Literal["everything", "decisions"] = "everything",
        alpha_rule: Literal["penalised", "averaged"] = "penalised",
        scored_against: Literal[
            "post_proc_dp",
            "post_proc_eqodds",
            "fair_logloss_eqopp",
            "fair_logloss_eqopp_restandardised",
        ]
        | None = None,
        **options: Any,
    ) -> None:
        self.noise_on: Literal["everything", "decisions"] = noise_on
        self.alpha_rule: Literal["penalised", "averaged"] = alpha_rule
        self.scored_against: str | None = scored_against
        super().__init__(seed=seed, **options)
        if noise_on == "decisions" and not self.flip_decisions:
            raise ValueError(
                "flip_decisions: false leaves nothing to flip with noise_on: decisions"
            )

    def training_step(self, batch: Halves, batch_idx: int) -> None:
        """One iteration, whose sample is kept for the other rule."""
        train, _ = batch.units()
        if not isinstance(self._sampler, KeepingSampler):
            self._sampler = KeepingSampler(train, self.references(train).index)
        self._before = self.alpha.numpy().copy()
        super().training_step(batch, batch_idx)

    def _log_iteration(self, train: Units, references: References, total: float) -> None:
        if self.alpha_rule == "averaged" and isinstance(self._sampler, KeepingSampler):
            found = averaged(self._before, self._sampler.last.losses, references.losses)
            self.alpha.copy_(torch.from_numpy(found))
        super()._log_iteration(train, references, total)

    def _make_references(self, train: Units, n: int, purpose: str) -> References:
        if self.noise_on == "decisions":
            return self._decisions_flipped(self.maker, train, n, purpose)
        return super()._make_references(train, n, purpose)

    def _decisions_flipped(self, maker: str, train: Units, n: int, purpose: str) -> References:
        made = noisy(MAKERS[maker], self.noise)
        return make_references(made, train, n, 0.0, derive_seed(self.seed, purpose))

    def _add_ours(self, test: Array, fitted: Array, train: Units, references: References) -> None:
        super()._add_ours(test, fitted, train, references)
        if self.scored_against is None:
            return
        other = self._decisions_flipped(self.scored_against, train, self.n_references, "other")
        for name, share in zip(MEASURES, gamma_per_measure(fitted, other.losses), strict=True):
            self.add_result("test/gamma_other", float(share), name)


def noisy(maker: Maker, share: float) -> Maker:
    """A maker of whose decisions a share is flipped."""

    def make(fit: Units, decide: Units, seed: int) -> Binary:
        rng = np.random.default_rng(derive_seed(seed, "noise"))
        return flip(maker(fit, decide, seed), share, rng)

    return make


def averaged(before: Array, ours: Array, reference: Array, cap: float = CAP) -> Array:
    """Inverse margins by the rule of the authors' code at 085c2c9f.

    One measure after another, in place: its alpha becomes the mean of all; then references are gone
    through by their own loss ``ft``, and it becomes ``1 / (ft_m - f_m)`` where that is in
    (0, cap), else the mean of all once more, until the mean of ``ft_1 ... ft_m`` has reached the
    mean of all ``f``.

    Args:
        before: ``(K,)`` of the iteration before.
        ours: ``(N, K)`` losses f; row j belongs to reference j.
        reference: ``(N, K)`` losses ft.
        cap: largest alpha, itself not allowed.

    Returns:
        ``(K,)``.
    """
    alpha = before.copy()
    for k in range(len(alpha)):
        alpha[k] = alpha.mean()
        order = np.argsort(reference[:, k], kind="stable")
        f, ft = ours[order, k], reference[order, k]
        mean = np.cumsum(ft) / np.arange(1, len(ft) + 1)
        for m in range(len(ft)):
            margin = ft[m] - f[m]
            alpha[k] = 1 / margin if margin > 0 and 1 / margin < cap else alpha.mean()
            if f.mean() <= mean[m]:
                break
    return alpha
