"""One run: references, the fit, and all methods' losses beside those of the references."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from retable.papers.base import PaperModule
from retable.papers.superhuman_fairness import alpha as margins
from retable.papers.superhuman_fairness.baselines.table import BASELINES
from retable.papers.superhuman_fairness.data import Halves
from retable.papers.superhuman_fairness.gradient import Sampler, gradient, probability
from retable.papers.superhuman_fairness.losses import MEASURES, Array, losses
from retable.papers.superhuman_fairness.references import MAKERS, References, make_references
from retable.papers.superhuman_fairness.rows import (
    OURS,
    OURS_MARGIN,
    OURS_TRAIN,
    REFERENCE_SET,
    REFERENCES,
    REFERENCES_STD,
)
from retable.papers.superhuman_fairness.start import initial
from retable.papers.superhuman_fairness.stopping import Stopping
from retable.papers.superhuman_fairness.subdominance import (
    gamma_joint,
    gamma_per_measure,
    subdominance,
    support,
)
from retable.papers.superhuman_fairness.units import Binary, Units
from retable.training.seeds import derive_seed

CURVE_POINTS = 10


class SuperhumanFairness(PaperModule):
    """Minimise the subdominance of logistic decisions to reference decisions.

    An epoch is one iteration: N decision vectors are drawn from the model, one for each reference
    on the items that the reference decides on; the weights take a score-function step, then the
    inverse margins alpha are recomputed from the same vectors. Reported decisions are those with a
    probability of at least the training half's base rate.

    Results by the names of :mod:`~retable.papers.superhuman_fairness.rows`, and of ours: shares
    dominated per measure by its losses on the test half, ``test/gamma_held_out``; total
    subdominance and number of the last iteration, ``test/subdominance`` and ``test/iterations``;
    ten points of the learning curves on the training half, ``curve/...``, whose step is the
    iteration.

    Args:
        seed: numbers the repetition.
        in_features: inputs of an item.
        references: name of the references' maker.
        n_references: N.
        noise: share of flipped labels, groups and decisions of the references, and of labels and
            groups that the baselines are fitted on.
        flip_decisions: whether noise flips the references' decisions as well.
        optimizer: ``_partial_`` of an optimiser; the paper's is plain SGD. The gradient is the
            sum over the references, so the rate goes with ``50 / N``.
        start: initial weights.
        center: what is subtracted from the mean features, see :func:`gradient`.
        constant: what is subtracted from the subdominances.
        kind: of subdominance.
        lam: weight of the penalty on alpha.
        early_stop: stop as the authors do, after three iterations that dominate less.
        keep: the iterate that an early stop leaves: ``last`` is the one that the authors
            evaluate, ``before`` the one whose weights they store.
        baselines: names of baselines.
        fresh: fresh references that the finished fit is measured against, 0 for none.
        marks: references whose losses are recorded one by one.
    """

    def __init__(
        self,
        *,
        seed: int,
        in_features: Annotated[int, Field(ge=1)],
        references: Literal[
            "post_proc_dp",
            "post_proc_eqodds",
            "fair_logloss_eqopp",
            "fair_logloss_eqopp_shifted",
            "fair_logloss_eqopp_restandardised",
        ] = "post_proc_dp",
        n_references: Annotated[int, Field(ge=2)] = 50,
        noise: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        flip_decisions: bool = True,
        optimizer: Any = None,
        start: Literal["logistic", "fair_logloss_dp"] = "logistic",
        center: Literal["as_coded", "correct"] = "as_coded",
        constant: Literal["as_coded", "none"] = "as_coded",
        kind: Literal["absolute", "relative"] = "absolute",
        lam: Annotated[float, Field(ge=0)] = margins.LAMBDA,
        early_stop: bool = True,
        keep: Literal["last", "before"] = "last",
        baselines: list[
            Literal[
                "post_proc_dp",
                "post_proc_eqodds",
                "fair_logloss_dp",
                "fair_logloss_eqodds",
                "fair_logloss_eqopp",
            ]
        ]
        | None = None,
        fresh: Annotated[int, Field(ge=0)] = 0,
        marks: Annotated[int, Field(ge=0, le=12)] = 10,
    ) -> None:
        self.in_features = in_features
        self.maker, self.n_references = references, n_references
        self.noise, self.flip_decisions = noise, flip_decisions
        self.start: Literal["logistic", "fair_logloss_dp"] = start
        self.center: Literal["as_coded", "correct"] = center
        self.constant: Literal["as_coded", "none"] = constant
        self.kind: Literal["absolute", "relative"] = kind
        self.lam, self.early_stop = lam, early_stop
        self.keep: Literal["last", "before"] = keep
        self.baselines: list[str] = list(BASELINES) if baselines is None else list(baselines)
        self.fresh, self.marks = fresh, marks
        super().__init__(seed=seed, optimizer=optimizer)
        self.automatic_optimization = False
        self._references: References | None = None
        self._sampler: Sampler | None = None

    def build_model(self) -> None:
        """Weights, and everything else that the next iteration depends on, as the state."""
        self.theta = nn.Parameter(torch.zeros(self.in_features, dtype=torch.float64))
        self.bias: Tensor
        self.alpha: Tensor
        self.stopping: Tensor
        self.register_buffer("bias", torch.zeros((), dtype=torch.float64))
        self.register_buffer("alpha", torch.ones(len(MEASURES), dtype=torch.float64))
        # iterations, gamma sum of the last, how many in a row were worse
        self.register_buffer("stopping", torch.zeros(3, dtype=torch.float64))

    def training_step(self, batch: Halves, batch_idx: int) -> STEP_OUTPUT:
        """One iteration."""
        train, _ = batch.units()
        if train.x.shape[1] != self.in_features:
            raise ValueError(
                f"model.in_features: {self.in_features}, but the data has {train.x.shape[1]} inputs"
            )
        state = self._state()
        if state.iterations == 0:
            self._set_start(train)
        references = self.references(train)
        if self._sampler is None:
            self._sampler = Sampler(train, references.index)
        rng = np.random.default_rng(derive_seed(self.seed, "sample", state.iterations))
        sample = self._sampler.draw(self.probability(train.x), rng)
        before = self.theta.detach().clone(), self.alpha.clone()
        parts = subdominance(sample.losses, references.losses, self.alpha.numpy(), self.kind)
        slope = gradient(
            parts,
            sample.total,
            self._sampler.size,
            self._sampler.n,
            center=self.center,
            constant=self.constant,
        )
        self._descend(slope)
        found = margins.closed_form(sample.losses, references.losses, lam=self.lam)
        self.alpha.copy_(torch.from_numpy(found))
        self._log_iteration(train, references, float(parts.sum()))
        if self.early_stop and self._state().stops:
            self.trainer.should_stop = True
            if self.keep == "before":
                with torch.no_grad():
                    self.theta.copy_(before[0])
                self.alpha.copy_(before[1])
        return None

    def _descend(self, slope: Array) -> None:
        optimizer = cast("torch.optim.Optimizer", self.optimizers())
        self.theta.grad = torch.from_numpy(slope)
        optimizer.step()
        optimizer.zero_grad()

    def _log_iteration(self, train: Units, references: References, total: float) -> None:
        ours = losses(self.decide(train.x, base_rate(train)), train.y, train.a)[0]
        gammas = gamma_per_measure(ours, references.losses)
        state = self._state().seen(float(gammas.sum()))
        self.stopping.copy_(torch.tensor(state, dtype=torch.float64))
        values = dict(zip(MEASURES, ours.tolist(), strict=True))
        values |= {f"gamma_{m}": g for m, g in zip(MEASURES, gammas.tolist(), strict=True)}
        values["gamma_joint"] = gamma_joint(ours, references.losses)
        values["subdominance"] = total
        self.log_dict(
            {f"train/{name}": value for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=1,
        )

    def _state(self) -> Stopping:
        iterations, last, worse = self.stopping.tolist()
        return Stopping(int(iterations), last, int(worse))

    def _set_start(self, train: Units) -> None:
        theta, bias = initial(train, self.start, derive_seed(self.seed, "start"))
        with torch.no_grad():
            self.theta.copy_(torch.from_numpy(theta))
        self.bias.fill_(bias)

    def references(self, train: Units) -> References:
        """The run's references, made once; a resumed fit has them from its checkpoint."""
        if self._references is None:
            self._references = self._make_references(train, self.n_references, "references")
        return self._references

    def _make_references(self, train: Units, n: int, purpose: str) -> References:
        return make_references(
            MAKERS[self.maker],
            train,
            n,
            self.noise,
            derive_seed(self.seed, purpose),
            flip_decisions=self.flip_decisions,
        )

    def probability(self, x: Array) -> Array:
        """``P(yhat = 1)`` of each item, ``(n,)``."""
        return probability(x, self.theta.detach().numpy(), float(self.bias))

    def decide(self, x: Array, threshold: float) -> Binary:
        """Decisions ``(n,)``: 1 where the probability is at least the threshold."""
        return (self.probability(x) >= threshold).astype(np.int8)

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Record ten points of the learning curves; the step is the iteration, from 1."""
        steps = {max(1, len(rows) * point // CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)}
        for step in sorted(steps):
            for name in (*MEASURES, "gamma_joint", "subdominance"):
                self.add_result(f"curve/{name}", rows[step - 1][f"train/{name}"], OURS, step)
        self.add_result("test/subdominance", rows[-1]["train/subdominance"])
        self.add_result("test/iterations", len(rows))

    def test_step(self, batch: Halves, batch_idx: int) -> None:
        """Measure ours, the baselines and the references."""
        train, test = batch.units()
        references = self.references(train)
        rate = base_rate(train)
        found = {
            OURS: losses(self.decide(test.x, rate), test.y, test.a)[0],
            OURS_TRAIN: losses(self.decide(train.x, rate), train.y, train.a)[0],
        }
        self._add_ours(found[OURS], found[OURS_TRAIN], train, references)
        seed = derive_seed(self.seed, "baselines")
        for name in self.baselines:
            found[name] = BASELINES[name](train, test, self.noise, seed).test
        for name, values in found.items():
            self._add_measures("test/", values, name)
            self.add_result("test/dominated", gamma_joint(values, references.losses), name)
        self._add_measures("test/", references.losses.mean(axis=0), REFERENCES)
        self._add_measures("test/", references.losses.std(axis=0), REFERENCES_STD)
        for j, values in enumerate(references.losses[: self.marks], start=1):
            self._add_measures("test/", values, REFERENCE_SET, j)

    def _add_measures(self, prefix: str, values: Array, row: str, step: int | None = None) -> None:
        for name, value in zip(MEASURES, values.tolist(), strict=True):
            self.add_result(f"{prefix}{name}", value, row, step)

    def _add_ours(self, test: Array, fitted: Array, train: Units, references: References) -> None:
        """Shares per measure, margins, and the theory's bound with what it bounds."""
        seen = gamma_per_measure(fitted, references.losses)
        held_out = gamma_per_measure(test, references.losses)
        alpha = self.alpha.numpy()
        for k, name in enumerate(MEASURES):
            self.add_result("test/gamma", float(seen[k]), name)
            self.add_result("test/gamma_held_out", float(held_out[k]), name)
            self.add_result("test/margin", float(1 / alpha[k]), name)
        self._add_measures("test/", fitted + 1 / alpha, OURS_MARGIN)
        parts = subdominance(fitted, references.losses, alpha, self.kind)
        bound = 1 - float(support(parts).mean())
        self.add_result("test/bound", bound)
        if self.fresh:
            fresh = self._make_references(train, self.fresh, "fresh")
            dominated = gamma_joint(fitted, fresh.losses)
            self.add_result("test/fresh_gamma", dominated)
            self.add_result("test/bound_slack", dominated - bound)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the references into the checkpoint: they take longer than all iterations."""
        super().on_save_checkpoint(checkpoint)
        if self._references is not None:
            index = torch.from_numpy(self._references.index.astype(np.int32))
            kept = index, torch.from_numpy(self._references.losses)
            checkpoint["superhuman_fairness"] = kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the references."""
        super().on_load_checkpoint(checkpoint)
        kept = checkpoint.get("superhuman_fairness")
        if kept is not None:
            index, found = kept
            self._references = References(index.numpy().astype(np.int64), found.numpy())


def base_rate(train: Units) -> float:
    """Share of positive labels in the training half: the threshold of reported decisions."""
    return float(train.y.mean())
