"""Base of the modules of all papers: three building hooks, one step, metrics, optimisers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MetricCollection

from retable.papers.meter import Meter, StepOutput
from retable.training.schedules import Schedule
from retable.training.start import Arrays, Start
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.data.base import PaperDataModule

__all__ = ["Arrays", "PaperModule", "Result", "Start", "StepOutput"]

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
        scheduler: ``_partial_`` of a scheduler; called with the optimiser.
        scheduler_monitor: metric that a plateau scheduler follows.
        scheduler_interval: when the scheduler is stepped, also in manual optimisation: at the end
            of every epoch, at the start of every epoch (``epoch_start``, the first one included)
            or after every step of the optimiser (in manual optimisation: after every batch).
        channels_last: keep weights of convolutions with the channels last in memory, which their
            outputs follow; faster for some networks and devices, equal but for rounding.

    Raises:
        ValueError: for an interval that a scheduler cannot have.
        UserError: where a building hook uses an option that is not set yet.
    """

    timing_metrics: ClassVar[frozenset[str]] = frozenset()
    """Metrics that measure time; they are never part of what makes two runs equal."""

    splits: ClassVar[bool] = False
    """Whether a batch may be split over several devices.

    The loss and what is logged have to be means over its items, gradients to come from Lightning's
    backward, and what is drawn once for a batch from :func:`retable.training.data_parallel.common`.
    Batch normalisation of torch is taken care of.
    """

    kept_weights: ClassVar[tuple[str, ...]] = ()
    """Names of the weights that a module keeps besides those it trains, such as ``ema``; they are
    part of its ``state_dict``, so that a checkpoint has them. :meth:`finish_weights` puts them in
    place where a config's ``tested`` asks for them."""

    def __init__(
        self,
        *,
        seed: int,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_monitor: str = "val/loss",
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
        channels_last: bool = False,
    ) -> None:
        manual = self.__dict__.get("_automatic_optimization") is False  # said too early
        super().__init__()
        self.automatic_optimization = not manual
        self.seed = seed
        self.results: list[Result] = []
        self._meters: defaultdict[Stage, Meter] = defaultdict(Meter)
        self._optimizer = optimizer
        self._scheduler = scheduler
        self.schedule = Schedule(scheduler_interval, scheduler_monitor)
        self.row_prefix = ""
        try:
            self.build_model()
            self.build_losses()
            self.build_metrics()
        except AttributeError as error:
            if error.obj is self:
                raise UserError(
                    f"model._target_: {error}; set a module's options before super().__init__(),"
                    " which builds it"
                ) from error
            raise
        if channels_last:
            nn.Module.to(self, memory_format=torch.channels_last)

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

    def use_metrics(self, metrics: MetricCollection | Mapping[str, MetricCollection]) -> None:
        """Clone metrics for the three stages, with prefixes ``train/ val/ test/``.

        Args:
            metrics: one collection, for :attr:`StepOutput.predictions`; or one for each task, for
                :attr:`StepOutput.tasks`, which is logged as ``train/<task>/<metric>``.
        """
        if isinstance(metrics, MetricCollection):
            self.train_metrics = metrics.clone(prefix="train/")
            self.val_metrics = metrics.clone(prefix="val/")
            self.test_metrics = metrics.clone(prefix="test/")
            return
        for stage in ("train", "val", "test"):
            clones = {t: m.clone(prefix=f"{stage}/{t}/") for t, m in metrics.items()}
            setattr(self, f"{stage}_metrics", nn.ModuleDict(clones))

    def shared_step(self, batch: Any) -> StepOutput:
        """Loss, predictions and targets of a batch, the same in all stages."""
        raise NotImplementedError(f"{type(self).__name__} has no shared_step")

    def _metrics(self, stage: Stage) -> dict[str, MetricCollection]:
        metrics: Any = getattr(self, f"{stage}_metrics", None)
        if isinstance(metrics, MetricCollection):
            return {"": metrics}
        return {} if metrics is None else dict(metrics.items())

    def _output(self, batch: Any) -> StepOutput:
        output: Any = self.shared_step(batch)
        if not isinstance(output, StepOutput):
            raise TypeError(
                f"{type(self).__name__}.shared_step returned a {type(output).__name__}; it has to"
                " return StepOutput(loss, predictions, targets), of retable.papers.base"
            )
        return output

    def _step(self, batch: Any, stage: Stage) -> Tensor:
        output = self._output(batch)
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
        """Loss of a training batch.

        An optimiser may evaluate it several times for one batch (SAM, LBFGS). The first time is
        metered: it is the loss at the weights that the step begins with, and comes once a batch.
        """
        meter, evaluated = self._meters["train"], (self.trainer.current_epoch, batch_idx)
        if meter.evaluated == evaluated:
            if self.trainer.accumulate_grad_batches > 1:
                raise UserError(
                    "trainer.accumulate_grad_batches: must be 1 for an optimiser that evaluates the"
                    " loss several times: only the last batch would count in the later ones"
                )
            return self._output(batch).loss
        meter.evaluated = evaluated
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

    def take_start(self, start: Start) -> None:
        """Begin with what another run has left; called once, before optimisers exist.

        Also where the run goes on from a checkpoint of its own, which then replaces the weights,
        and for a run that only tests. As it stands here the weights have to fit exactly.
        """
        self.load_state_dict(start.weights)

    def finish_weights(self, name: str | None, data: PaperDataModule) -> None:
        """Make the weights ready for the test that is about to begin.

        Called on the run's device, in evaluation mode and without gradients, after the weights of
        the epoch that is tested were loaded. The place to put an average of the weights into the
        network, or to estimate statistics of batch normalisation for it.

        Args:
            name: one of :attr:`kept_weights`; None for those that were trained.
            data: the run's DataModule, set up for ``fit`` and ``test``.
        """

    def artifacts(self) -> dict[str, Arrays]:
        """Arrays by name that the run leaves besides its numbers; each becomes a file.

        Called after the test, of the first of several rows by name, with the module as the test
        has left it, or after the fit where nothing is tested; also where the fit was an earlier
        attempt's: they may depend only on what a checkpoint and the test give. They are copied.
        """
        return {}

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
        row = "/".join(part for part in (self.row_prefix, row) if part)
        self.results.append(Result(metric, float(value), row, step))

    def optimized(self) -> Iterable[Any]:
        """Parameters for the optimiser, or groups of them with options of their own."""
        return self.parameters()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimiser and scheduler; the module keeps what Lightning would not step in time."""
        if self._optimizer is None:
            kind = type(self).__name__
            raise ValueError(f"model.optimizer: {kind} needs one, as stages has 'fit'")
        optimizer: torch.optim.Optimizer = self._optimizer(self.optimized())
        if self._scheduler is None:
            return optimizer
        scheduler: LRScheduler | ReduceLROnPlateau = self._scheduler(optimizer)
        interval = self.schedule.interval
        plateau = isinstance(scheduler, ReduceLROnPlateau)
        if plateau and interval != "epoch":
            raise ValueError(
                f"model.scheduler_interval: {interval} is not possible for a plateau scheduler,"
                " which is stepped at the end of an epoch; leave it out"
            )
        if plateau or self.keeps_schedule:
            self.schedule.keep(scheduler)
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": interval},
        }

    @property
    def keeps_schedule(self) -> bool:
        """Whether a scheduler that is no plateau scheduler is stepped by the harness."""
        by_lightning = self.automatic_optimization and self.schedule.interval != "epoch_start"
        return self._scheduler is not None and not by_lightning

    def on_train_epoch_end(self) -> None:
        """Step a plateau scheduler, so that what a subclass logs next is of the new rate."""
        self.schedule.step_plateau(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the state of a schedule that the module keeps into the checkpoint."""
        state = self.schedule.state_dict()
        if state is not None:
            checkpoint["retable_schedule"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the state of a schedule that the module keeps."""
        self.schedule.load_state_dict(checkpoint.get("retable_schedule"))
