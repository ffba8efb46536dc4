"""Means and metrics of one stage over one epoch, updated in large pieces.

A metric object costs about as much per call as a small network's whole step. Nothing needs its
value before the epoch's end, so what it takes is kept and given to it many batches at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from retable.training import data_parallel

_MAX_BATCHES = 512
_MAX_ELEMENTS = 2**20


Pair = tuple[Tensor, Tensor]
"""Predictions and targets, ``(B, ...)`` each."""


@dataclass
class StepOutput:
    """Output of a module's step on one batch.

    Attributes:
        loss: scalar tensor.
        predictions: what the metrics take first, ``(B, ...)``.
        targets: what the metrics take second, ``(B, ...)``.
        logs: further scalars, averaged over the epoch's items and logged under the stage's prefix.
        tasks: predictions and targets of several tasks by name, each for metrics of its own; the
            items of one task may be fewer than the batch's.
        items: B, where it is not the length of the targets.
    """

    loss: Tensor
    predictions: Tensor | None = None
    targets: Tensor | None = None
    logs: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    tasks: dict[str, Pair] = field(default_factory=dict[str, Pair])
    items: int | None = None

    def pairs(self) -> dict[str, Pair]:
        """Predictions and targets by task; those that belong to no task under the name ``""``."""
        if self.predictions is None or self.targets is None:
            return self.tasks
        return {"": (self.predictions, self.targets), **self.tasks}

    def size(self) -> int:
        """B, the number of items that the scalars are means over.

        Raises:
            ValueError: where it is not given and several tasks have several numbers of targets.
        """
        if self.items is not None:
            return self.items
        sizes = {len(targets) for _, targets in self.pairs().values()}
        if len(sizes) != 1:
            raise ValueError("StepOutput.items: has to be given, the targets do not say it")
        return sizes.pop()


class Meter:
    """Collects the outputs of a stage's batches until the epoch ends."""

    def __init__(self) -> None:
        self._scalars: dict[str, list[Tensor]] = {}
        self._sizes: dict[str, list[int]] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, _Waiting] = {}
        self.evaluated: tuple[int, int] | None = None
        """Epoch and batch that training has metered last."""

    def add(self, output: StepOutput, metrics: Mapping[str, MetricCollection]) -> None:
        """Keep a batch's scalars, predictions and targets.

        Args:
            output: of the batch.
            metrics: by task.

        Raises:
            ValueError: for a task without metrics where others have some.
        """
        ranks = data_parallel.active()
        counts = ranks is None or ranks.items > 0
        size = output.size() if counts else 0
        for name, value in (("loss", output.loss), *output.logs.items()):
            self._scalars.setdefault(name, []).append(value.detach())
            self._sizes.setdefault(name, []).append(size)
        if metrics and counts:
            for task, (predictions, targets) in output.pairs().items():
                if task not in metrics:
                    raise ValueError(_without_metrics(task, metrics))
                waiting = self._waiting.setdefault(task, _Waiting())
                waiting.add((predictions.detach(), targets), metrics[task])
        if len(self._sizes["loss"]) >= _MAX_BATCHES:
            self._sum()

    def close(self, metrics: Mapping[str, MetricCollection]) -> dict[str, Tensor]:
        """Means over the epoch's items and values of the metrics; ready for the next epoch."""
        self._sum()
        if data_parallel.active() is not None:
            self._add_up()
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        values: dict[str, Tensor] = {}
        for task, collection in metrics.items():
            if task in self._waiting:
                self._waiting[task].update(collection)
            if self._counted(collection):
                values.update(collection.compute())
            collection.reset()
        return {**means, **values}

    @staticmethod
    def _counted(metrics: MetricCollection) -> bool:
        # Several processes add up their states when they compute, so that all have to.
        return data_parallel.active() is not None or any(m.update_called for m in metrics.values())

    def _add_up(self) -> None:
        """Over all processes."""
        for name in sorted(self._sums):
            both = torch.stack(
                [self._sums[name], torch.full_like(self._sums[name], self._counts[name])]
            )
            self._sums[name], count = data_parallel.total(both)
            self._counts[name] = int(count)

    def _sum(self) -> None:
        for name, values in self._scalars.items():
            if not values:
                continue
            stacked = torch.stack(values).double()
            sizes = torch.tensor(self._sizes[name], dtype=torch.float64, device=stacked.device)
            total = (stacked * sizes).sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._counts[name] = self._counts.get(name, 0) + sum(self._sizes[name])
            values.clear()
            self._sizes[name].clear()


def _without_metrics(task: str, metrics: Mapping[str, MetricCollection]) -> str:
    if "" in metrics:
        return (
            f"StepOutput.tasks: '{task}' has no metrics, build_metrics declares one collection for"
            f" no task; give self.use_metrics one for each: {{'{task}': MetricCollection(...)}}"
        )
    if not task:
        return (
            f"StepOutput.predictions: build_metrics declares metrics of tasks ({sorted(metrics)})"
            " only; return StepOutput(loss, tasks={...})"
        )
    return (
        f"StepOutput.tasks: '{task}' has no metrics; build_metrics declares those of"
        f" {sorted(metrics)}"
    )


class _Waiting:
    """Predictions and targets of a task that its metrics have not had yet."""

    def __init__(self) -> None:
        self._pairs: list[Pair] = []
        self._elements = 0

    def add(self, pair: Pair, metrics: MetricCollection) -> None:
        if self._pairs and not _joinable(pair, self._pairs[-1]):
            self.update(metrics)
        self._pairs.append(pair)
        self._elements += pair[0].numel() + pair[1].numel()
        if self._elements >= _MAX_ELEMENTS or len(self._pairs) >= _MAX_BATCHES:
            self.update(metrics)

    def update(self, metrics: MetricCollection) -> None:
        if self._pairs:
            predictions, targets = zip(*self._pairs, strict=True)
            metrics.update(torch.cat(predictions), torch.cat(targets))
        self._pairs.clear()
        self._elements = 0


def _joinable(one: Pair, other: Pair) -> bool:
    return all(
        a.dim() > 0 and a.shape[1:] == b.shape[1:] and a.dtype == b.dtype
        for a, b in zip(one, other, strict=True)
    )
