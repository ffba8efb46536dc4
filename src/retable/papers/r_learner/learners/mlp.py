"""A multilayer perceptron per fit, for the reduced protocol in torch; not in the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from retable.papers.r_learner.learners.base import Array, Role, Task
from retable.papers.r_learner.learners.kernel_ridge import Scale
from retable.papers.r_learner.learners.mlp_training import (
    Batch,
    Loss,
    Regressor,
    Schedule,
    alone,
    network,
    train,
)
from retable.training.seeds import derive_seed

Groups = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Setting:
    """``seed``: of initial weights and held-out rows; ``groups (n,)``: rows that stay together."""

    seed: int
    groups: Groups | None = None


@dataclass(frozen=True, eq=False)
class NetFit:
    """``offset + spread net(x)`` of standardised covariates; a probability is its logistic."""

    scale: Scale
    net: nn.Sequential
    offset: float
    spread: float
    task: Task

    def predict(self, x: Array) -> Array:
        """``(k,)`` at the rows of ``x (k, p)``."""
        with torch.no_grad():
            output = self.net(_tensor(self.scale(x)))[:, 0].double()
        output = self.offset + self.spread * output
        if self.task is Task.PROBABILITY:
            output = torch.sigmoid(output)
        return output.numpy()


class MLP:
    """A network per fit, trained with Adam on full batches until held-out rows say enough.

    The effect's regression is ``sum_i (residual_i - contrast_i t(x_i))^2``: for weights, with
    ``residual = sqrt(w) g`` and ``contrast = sqrt(w)``; for the R-loss, ``Y - m`` and ``A - pi``,
    so that nothing is divided by ``A - pi``. A probability is fitted by its log loss. Covariates
    are standardised; outcomes are centred and scaled by the (weighted) mean and standard deviation
    of all rows of the fit, weights divided by their mean over these. Nothing is tuned but the time
    to stop, in every fit anew and by rows of that fit alone.

    Args:
        hidden: units of a hidden layer.
        layers: hidden layers.
        rate: learning rate of Adam.
        held_out: share of the rows (or of the groups of rows) that say when to stop.
        steps: of the optimiser between two looks at these.
        patience: looks without a lower loss that end the training.
        max_epochs: looks at most.
    """

    def __init__(
        self,
        *,
        hidden: Annotated[int, Field(ge=1)] = 64,
        layers: Annotated[int, Field(ge=1)] = 2,
        rate: Annotated[float, Field(gt=0)] = 1e-3,
        held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        steps: Annotated[int, Field(ge=1)] = 10,
        patience: Annotated[int, Field(ge=1)] = 5,
        max_epochs: Annotated[int, Field(ge=1)] = 100,
    ) -> None:
        self.hidden, self.layers, self.held_out = hidden, layers, held_out
        self.schedule = Schedule(rate, steps, patience, max_epochs)

    def tune(
        self,
        x: Array,
        y: Array,
        *,
        task: Task,
        role: Role,
        rng: np.random.Generator,
        weights: Array | None = None,
        groups: Groups | None = None,
    ) -> Setting:
        """A seed for the fits; nothing is tuned."""
        return Setting(int(rng.integers(2**62)), groups)

    def fit(
        self, setting: Setting, x: Array, y: Array, *, task: Task, weights: Array | None = None
    ) -> NetFit:
        """Train on the rows, but for those held out. See ``Learner.fit``."""
        w = np.ones(len(y)) if weights is None else weights
        if task is Task.PROBABILITY:
            scale = Scale.of(x)
            net = self._train(setting, "log", scale(x), y, w / w.mean())
            return NetFit(scale, net, 0.0, 1.0, task)
        return self._fit_square(setting, x, np.sqrt(w) * y, np.sqrt(w))

    def fit_r_loss(
        self,
        x: Array,
        residual: Array,
        contrast: Array,
        *,
        rng: np.random.Generator,
        groups: Groups | None = None,
    ) -> NetFit:
        """Train on the R-loss itself. See ``RLossLearner.fit_r_loss``."""
        setting = self.tune(
            x, residual, task=Task.REGRESSION, role=Role.EFFECT, rng=rng, groups=groups
        )
        return self._fit_square(setting, x, residual, contrast)

    def _fit_square(self, setting: Setting, x: Array, residual: Array, contrast: Array) -> NetFit:
        """Fit ``residual = contrast t(x)`` by least squares, in units that suit the network."""
        scale = Scale.of(x)
        mean_weight = np.mean(contrast**2)
        offset = float(np.mean(contrast * residual) / mean_weight)  # the best constant
        left = residual - contrast * offset
        spread = float(np.sqrt(np.mean(left**2) / mean_weight)) or 1.0
        root = float(np.sqrt(mean_weight))
        net = self._train(setting, "square", scale(x), left / (spread * root), contrast / root)
        return NetFit(scale, net, offset, spread, Task.REGRESSION)

    def _train(
        self, setting: Setting, kind: Loss, x: Array, residual: Array, contrast: Array
    ) -> nn.Sequential:
        held = held_out(len(x), self.held_out, setting)
        generator = torch.Generator().manual_seed(derive_seed(setting.seed, "weights"))

        def rows(chosen: npt.NDArray[np.bool_]) -> Batch:
            return _tensor(x[chosen]), _tensor(residual[chosen]), _tensor(contrast[chosen])

        with alone():
            net = network(x.shape[1], self.hidden, self.layers, generator)
            train(Regressor(net, kind, self.schedule), rows(~held), rows(held), setting.seed)
        return net


def held_out(n: int, share: float, setting: Setting) -> npt.NDArray[np.bool_]:
    """Which of ``n`` rows say when to stop, ``(n,)``: a share of the groups, at least one of two.

    Raises:
        ValueError: where there is one row or group alone.
    """
    unit = (
        np.arange(n)
        if setting.groups is None
        else np.unique(setting.groups, return_inverse=True)[1]
    )
    if len(unit) != n:
        raise ValueError(f"{len(unit)} groups for {n} rows")
    count = int(unit.max()) + 1
    if count < 2:
        raise ValueError("one row or group: none can be held out to say when to stop")
    rng = np.random.default_rng(derive_seed(setting.seed, "held_out"))
    size = min(max(1, round(share * count)), count - 1)
    return (rng.permutation(count) < size)[unit]


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
