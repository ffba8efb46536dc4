"""Many tasks on molecules: errors in the units of the data, and their change against a base."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor
from torchmetrics import MetricCollection

from retable.papers.base import StepOutput
from retable.papers.igb.metrics import Mean
from retable.papers.igb.module import MultiTask


class AbsoluteError(Mean):
    """Mean absolute error of numbers ``(B,)``."""

    def value(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Absolute difference."""
        return (predicted - target).abs()


class Molecules(MultiTask):
    """:class:`~retable.papers.igb.module.MultiTask` for regression whose targets have units.

    Logged are by stage ``<task>/mae`` in the units that the data module reports, ``mean``, the
    mean over tasks of these errors by their bases, and ``delta_m``, 100 (``mean`` - 1): the mean
    change against the base in per cent, less is better.

    Args:
        tasks: outputs by task, all 1.
        base: ``<task>/mae`` of a network of its own for each task (STL).
        **options: of :class:`~retable.papers.igb.module.MultiTask`.

    Raises:
        ValueError: for a task without a base.
    """

    def __init__(
        self,
        *,
        tasks: Annotated[dict[str, Literal[1]], Field(min_length=1)],
        base: dict[str, Annotated[float, Field(gt=0)]],
        **options: Any,
    ) -> None:
        for task in tasks:
            if task not in base:
                raise ValueError(f"model.base: has no '{task}'; give one for every task")
        self.base = dict(base)
        super().__init__(tasks=dict(tasks), **options)

    def build_metrics(self) -> None:
        """Mean absolute error."""
        self.use_metrics({task: MetricCollection({"mae": AbsoluteError()}) for task in self.tasks})

    def setup(self, stage: str) -> None:
        """Take the units of the targets from the data."""
        data: Any = cast(Any, self.trainer).datamodule
        self.scales = dict(data.units)

    def for_metrics(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Outputs and targets in units."""
        return {
            task: (outputs[task].detach() * self.scales[task], targets[task] * self.scales[task])
            for task in self.tasks
        }

    def mean(self, pairs: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Mean over tasks of a batch's errors by their bases."""
        return torch.stack(
            [(y - target).abs().mean() / self.base[task] for task, (y, target) in pairs.items()]
        ).mean()

    def shared_step(self, batch: Any) -> StepOutput:
        """Add the change against the base, which is linear in errors: its mean is the epoch's."""
        output = super().shared_step(batch)
        output.logs["delta_m"] = 100 * (output.logs["mean"] - 1)
        return output
