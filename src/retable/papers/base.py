"""What the modules of all papers share: three building hooks, one step, metrics, optimisers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MetricCollection

from retable.resume import has_validated


@dataclass(frozen=True)
class Result:
    """One number of a run: ``row`` tells results of several methods in one run apart."""

    metric: str
    value: float
    row: str = ""
    step: int | None = None


@dataclass
class StepOutput:
    """What one batch gives.

    Attributes:
        loss: scalar tensor.
        predictions: what the metrics take first, ``(B, ...)``.
        targets: what the metrics take second, ``(B, ...)``.
        logs: further scalars to log under the stage's prefix.
    """

    loss: Tensor
    predictions: Tensor
    targets: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class PaperModule(LightningModule):
    """Base of every paper's module.

    A subclass sets its plain options first and then calls ``super().__init__``, which calls
    :meth:`build_model`, :meth:`build_losses` and :meth:`build_metrics` once each. The names differ
    from Lightning's hooks on purpose: ``configure_model`` is called again by ``trainer.test``.

    Args:
        seed: the run's seed; derive others with :func:`retable.seeds.derive_seed`.
        optimizer: ``_partial_`` of a ``torch.optim`` class; called with the parameters.
        scheduler: ``_partial_`` of a scheduler; called with the optimiser, stepped every epoch.
        scheduler_monitor: metric that a plateau scheduler follows.
    """

    timing_metrics: ClassVar[frozenset[str]] = frozenset()
    """Metrics that measure time: never part of what makes two runs equal."""

    def __init__(
        self,
        *,
        seed: int,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_monitor: str = "val/loss",
    ) -> None:
        super().__init__()
        self.seed = seed
        self.results: list[Result] = []
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._scheduler_monitor = scheduler_monitor
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self.build_model()
        self.build_losses()
        self.build_metrics()

    def build_model(self) -> None:
        """Make the network; a method without one leaves this as it is."""

    def build_losses(self) -> None:
        """Make the loss functions."""

    def build_metrics(self) -> None:
        """Make the metrics; :meth:`use_metrics` takes them."""

    def use_metrics(self, metrics: MetricCollection) -> None:
        """Clone one collection for the three stages, with prefixes ``train/ val/ test/``."""
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")

    def shared_step(self, batch: Any) -> StepOutput:
        """Loss, predictions and targets of a batch, the same in all stages."""
        raise NotImplementedError(f"{type(self).__name__} has no shared_step")

    def _log_step(self, batch: Any, stage: str) -> Tensor:
        output = self.shared_step(batch)
        size = len(output.targets)
        self.log(f"{stage}/loss", output.loss, on_step=False, on_epoch=True, batch_size=size)
        for name, value in output.logs.items():
            self.log(f"{stage}/{name}", value, on_step=False, on_epoch=True, batch_size=size)
        metrics = cast("MetricCollection | None", getattr(self, f"{stage}_metrics", None))
        if metrics is not None:
            metrics.update(output.predictions, output.targets)
            self.log_dict(dict(metrics.items()), on_step=False, on_epoch=True, batch_size=size)
        return output.loss

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Loss of a training batch."""
        return self._log_step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Log a validation batch."""
        return self._log_step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Log a test batch."""
        return self._log_step(batch, "test")

    def add_result(self, metric: str, value: float, row: str = "", step: int | None = None) -> None:
        """Record a number that is not a logged metric.

        Raises:
            ValueError: where the value is not finite: a missing number is left out, not written.
        """
        if not math.isfinite(value):
            raise ValueError(f"result {metric} ({row or 'run'}, step {step}) is {value}")
        self.results.append(Result(metric, float(value), row, step))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimiser and scheduler; a plateau scheduler stays with the module."""
        if self._optimizer is None:
            raise ValueError(f"{type(self).__name__} has a fit stage but no model.optimizer")
        optimizer: torch.optim.Optimizer = self._optimizer(self.parameters())
        if self._scheduler is None:
            return optimizer
        scheduler: LRScheduler | ReduceLROnPlateau = self._scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            # Lightning steps a plateau scheduler after the checkpoint is written, so a resumed
            # run would miss a step; ours is stepped before, in on_train_epoch_end.
            self._plateau = scheduler
            if self._plateau_state is not None:
                scheduler.load_state_dict(self._plateau_state)
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}

    def on_train_epoch_end(self) -> None:
        """Step the plateau scheduler, on a copy of the metric that validation just logged."""
        monitor = self._scheduler_monitor
        if self._plateau is None or (
            monitor.startswith("val/") and not has_validated(self.trainer)
        ):
            return
        metric = self.trainer.callback_metrics.get(monitor)
        if metric is None:
            logged = sorted(self.trainer.callback_metrics)
            raise ValueError(
                f"model.scheduler_monitor: '{monitor}' is not logged; logged: {logged}"
            )
        self._plateau.step(float(metric))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the plateau scheduler's state into the checkpoint."""
        if self._plateau is not None:
            checkpoint["retable_plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the plateau scheduler's state; the scheduler itself may not exist yet."""
        self._plateau_state = checkpoint.get("retable_plateau")
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)
