"""What the modules of all papers share: three building hooks, one step, metrics, optimisers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MetricCollection

from retable.papers.meter import Meter, StepOutput
from retable.training.checkpointing import has_validated

__all__ = ["PaperModule", "Result", "StepOutput"]

Stage = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Result:
    """One number of a run: ``row`` tells results of several methods in one run apart."""

    metric: str
    value: float
    row: str = ""
    step: int | None = None


class PaperModule(LightningModule):
    """Base of every paper's module.

    A subclass sets its plain options first and then calls ``super().__init__``, which calls
    :meth:`build_model`, :meth:`build_losses` and :meth:`build_metrics` once each. The names differ
    from Lightning's hooks on purpose: ``configure_model`` is called again by ``trainer.test``.

    Args:
        seed: the run's seed; derive others with :func:`retable.training.seeds.derive_seed`.
        optimizer: ``_partial_`` of a ``torch.optim`` class; called with the parameters.
        scheduler: ``_partial_`` of a scheduler; called with the optimiser, stepped every epoch.
        scheduler_monitor: metric that a plateau scheduler follows.
    """

    timing_metrics: ClassVar[frozenset[str]] = frozenset()
    """Metrics that measure time: never part of what makes two runs equal."""

    splits: ClassVar[bool] = False
    """Whether a batch may be split over several devices: the loss and what is logged are means
    over its items, gradients come from Lightning's backward, and what is drawn once for a batch
    comes from :func:`retable.training.data_parallel.common`. Batch normalisation of torch is taken
    care of."""

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
        self._meters: defaultdict[Stage, Meter] = defaultdict(Meter)
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._scheduler_monitor = scheduler_monitor
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self.build_model()
        self.build_losses()
        self.build_metrics()

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook it is in some forty times per batch; torch would look each time
        # whether a word is a parameter, a module or a buffer.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

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

    def _metrics(self, stage: Stage) -> MetricCollection | None:
        return cast("MetricCollection | None", getattr(self, f"{stage}_metrics", None))

    def _step(self, batch: Any, stage: Stage) -> Tensor:
        output = self.shared_step(batch)
        self._meters[stage].add(output, self._metrics(stage))
        return output.loss

    def _log_epoch(self, stage: Stage) -> None:
        """Log loss, further scalars and metrics of the epoch that ends."""
        values = self._meters[stage].close(self._metrics(stage))
        self.log_dict(
            {name if "/" in name else f"{stage}/{name}": value for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=1,
        )

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Loss of a training batch."""
        loss = self._step(batch, "train")
        if self.trainer.is_last_batch:
            # Here, not in a hook: early stopping looks at the epoch before the module's hook runs.
            self._log_epoch("train")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Log a validation batch."""
        return self._step(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log what the batches gave."""
        self._log_epoch("val")

    def test_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Log a test batch."""
        return self._step(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log what the batches gave."""
        self._log_epoch("test")

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Called after the fit with one mapping per epoch, ``{"epoch": k, "train/loss": ...}``.

        The place to record points of a learning curve, with :meth:`add_result`; the history is
        whole here even where the fit was resumed.
        """

    def export(self, file: Path, data: Any) -> str:
        """Write the trained network as a file for use elsewhere; `retable export` calls it.

        Args:
            file: to be written.
            data: the run's DataModule, set up for ``fit`` and ``test``.

        Returns:
            What was written, in words.
        """
        raise NotImplementedError

    def add_result(self, metric: str, value: float, row: str = "", step: int | None = None) -> None:
        """Record a number that is not a logged metric.

        Raises:
            ValueError: where the value is not finite: a missing number is left out, not written.
        """
        if not math.isfinite(value):
            raise ValueError(f"result {metric} ({row or 'run'}, step {step}) is {value}")
        self.results.append(Result(metric, float(value), row, step))

    def optimized(self) -> Iterable[Any]:
        """What the optimiser is given: parameters, or groups of them with options of their own."""
        return self.parameters()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimiser and scheduler; a plateau scheduler stays with the module."""
        if self._optimizer is None:
            raise ValueError(f"{type(self).__name__} has a fit stage but no model.optimizer")
        optimizer: torch.optim.Optimizer = self._optimizer(self.optimized())
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
