"""The point that goes down both losses, as a run: its data have no content."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torchmetrics import MetricCollection

from retable.papers.base import StepOutput
from retable.papers.igb.data import REGRESSION, Items, TaskData
from retable.papers.igb.metrics import Mean
from retable.papers.igb.module import MultiTask
from retable.papers.igb.toy import Point, distance_to_front, front, shifted

PATH, FRONT = "path", "front"
"""Rows of results: where the point was after each epoch, and the front."""

_POINTS = 41
_TASKS: tuple[str, ...] = ("first", "second")


class Steps(TaskData):
    """Batches without content, as many as an epoch has steps; tasks ``first`` and ``second``.

    Args:
        steps: of an epoch.
        **options: of :class:`~retable.papers.igb.data.TaskData`.
    """

    def __init__(self, *, steps: Annotated[int, Field(ge=1)] = 875, **options: Any) -> None:
        super().__init__(**options)
        self.steps = steps

    def kinds(self) -> dict[str, str]:
        """Both of numbers."""
        return dict.fromkeys(_TASKS, REGRESSION)

    def items(self) -> tuple[Items, Items, Items]:
        """Zeros: a batch for each step, one for validation and one for the test."""
        train, validation, test = (
            (torch.zeros(n, 1), dict.fromkeys(_TASKS, torch.zeros(n)))
            for n in (self.steps * self.batch_size, 1, 1)
        )
        return train, validation, test


class Value(Mean):
    """The mean of what is predicted."""

    def value(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The prediction itself."""
        return predicted


class Toy(MultiTask):
    """Multi-task descent of :class:`~retable.papers.igb.toy.Point` on its two losses.

    What is balanced are the losses shifted above 0; logged are the losses as they are
    (``<task>/loss``), the point (``x1``, ``x2``) and by how much both could fall at once
    (``front``). Results of row ``path`` are the start and the point after each epoch, or after at
    most 40 of them, evenly apart but for the last one; those of row ``front`` are 41 points of it.
    """

    def build_losses(self) -> None:
        """Balancing, and the front."""
        super().build_losses()
        self.register_buffer("best", front(), persistent=False)
        self.register_buffer("start", self.point.detach().clone())

    @property
    def point(self) -> Tensor:
        """The point ``(2,)``."""
        [net] = self.nets
        assert isinstance(net, Point)
        return net.x

    def build_metrics(self) -> None:
        """The losses."""
        self.use_metrics({task: MetricCollection({"loss": Value()}) for task in self.tasks})

    def task_losses(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """The shifted losses ``(2,)``."""
        return shifted(torch.stack([outputs[task].mean() for task in self.tasks]))

    def for_metrics(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The losses themselves."""
        return {task: (outputs[task].detach(), targets[task]) for task in self.tasks}

    def mean(self, pairs: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Mean of both losses."""
        return torch.stack([y.mean() for y, _ in pairs.values()]).mean()

    def shared_step(self, batch: Any) -> StepOutput:
        """The losses, and outside of training where the point is."""
        output = super().shared_step(batch)
        if self.training:
            return output
        x, best = self.point.detach(), self.get_buffer("best")
        where = {"x1": x[0], "x2": x[1], "front": distance_to_front(x.double(), best)}
        return replace(output, logs={**output.logs, **where})

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Record the path, and the front."""
        points = [(row["val/x1"], row["val/x2"]) for row in rows if "val/x1" in row]
        every = max(1, -(-len(points) // (_POINTS - 1)))
        last = points[-1:] if len(points) % every else []
        path = [tuple(self.get_buffer("start").tolist()), *points[every - 1 :: every], *last]
        for name, found in ((PATH, path), (FRONT, front(_POINTS).tolist())):
            for step, (x1, x2) in enumerate(found):
                self.add_result("test/x1", x1, row=name, step=step)
                self.add_result("test/x2", x2, row=name, step=step)
