"""Means and metrics of one stage over one epoch, updated in large pieces.

A metric object costs about as much per call as a small network's whole step. Nothing needs its
value before the epoch's end, so what it takes is kept and given to it many batches at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from retable.training import data_parallel

_MAX_BATCHES = 512
_MAX_ELEMENTS = 2**20


@dataclass
class StepOutput:
    """What one batch gives.

    Attributes:
        loss: scalar tensor.
        predictions: what the metrics take first, ``(B, ...)``.
        targets: what the metrics take second, ``(B, ...)``.
        logs: further scalars, averaged over the epoch's items and logged under the stage's prefix.
    """

    loss: Tensor
    predictions: Tensor
    targets: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class Meter:
    """Collects the outputs of a stage's batches until the epoch ends."""

    def __init__(self) -> None:
        self._scalars: dict[str, list[Tensor]] = {}
        self._sizes: dict[str, list[int]] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self._elements = 0

    def add(self, output: StepOutput, metrics: MetricCollection | None) -> None:
        """Keep a batch's scalars, predictions and targets."""
        ranks = data_parallel.active()
        counts = ranks is None or ranks.items > 0
        size = len(output.targets) if counts else 0
        for name, value in (("loss", output.loss), *output.logs.items()):
            self._scalars.setdefault(name, []).append(value.detach())
            self._sizes.setdefault(name, []).append(size)
        if metrics is not None and counts:
            pair = output.predictions.detach(), output.targets
            if self._outputs and not _joinable(pair, self._outputs[-1]):
                self._update(metrics)
            self._outputs.append(pair)
            self._elements += pair[0].numel() + pair[1].numel()
            if self._elements >= _MAX_ELEMENTS or len(self._outputs) >= _MAX_BATCHES:
                self._update(metrics)
        if len(self._sizes["loss"]) >= _MAX_BATCHES:
            self._sum()

    def close(self, metrics: MetricCollection | None) -> dict[str, Tensor]:
        """Means over the epoch's items and values of the metrics; ready for the next epoch."""
        self._sum()
        if data_parallel.active() is not None:
            self._add_up()
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        if metrics is None:
            return means
        self._update(metrics)
        values = metrics.compute() if self._counted(metrics) else {}
        metrics.reset()
        return {**means, **values}

    @staticmethod
    def _counted(metrics: MetricCollection) -> bool:
        # Several processes add up their states when they compute, so that all have to.
        return data_parallel.active() is not None or any(m.update_called for m in metrics.values())

    def _update(self, metrics: MetricCollection) -> None:
        if self._outputs:
            predictions, targets = zip(*self._outputs, strict=True)
            metrics.update(torch.cat(predictions), torch.cat(targets))
        self._outputs.clear()
        self._elements = 0

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


def _joinable(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(
        a.dim() > 0 and a.shape[1:] == b.shape[1:] and a.dtype == b.dtype
        for a, b in zip(one, other, strict=True)
    )
