"""Learning-rate schedulers where Lightning does not step them, or not in time.

Lightning steps none in manual optimisation and none at the start of an epoch, and it steps a
plateau scheduler after the checkpoint of the epoch is written, so that a resumed run would miss a
step. The schedules that a module keeps for these reasons are stepped by the callbacks here.
"""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import pytorch_lightning as pl
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from retable.training.epochs import epoch_of, has_validated

Interval = Literal["epoch", "epoch_start", "step"]
"""When a scheduler is stepped: at the end of every epoch, at the start of every epoch (the first
one included, so that no epoch has the rate the scheduler begins with), or after every step of the
optimiser (in manual optimisation: after every batch)."""


class Schedule:
    """A scheduler that its module keeps, with its state in the module's checkpoints.

    Args:
        interval: when it is stepped; a plateau scheduler takes ``epoch`` only.
        monitor: metric that a plateau scheduler follows.

    Raises:
        ValueError: for an interval that is none.
    """

    def __init__(self, interval: Interval, monitor: str) -> None:
        if interval not in get_args(Interval):
            raise ValueError(
                f"model.scheduler_interval: '{interval}' is none; valid: {get_args(Interval)}"
            )
        self.interval, self.monitor = interval, monitor
        self.scheduler: LRScheduler | ReduceLROnPlateau | None = None
        self._state: dict[str, Any] | None = None
        self._followed: int | None = None

    def keep(self, scheduler: LRScheduler | ReduceLROnPlateau) -> None:
        """Step this one; a state that was loaded before is its own."""
        self.scheduler = scheduler
        if self._state is not None:
            scheduler.load_state_dict(self._state)

    @property
    def plateau(self) -> bool:
        """Whether it follows a metric."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def state_dict(self) -> dict[str, Any] | None:
        """State of the scheduler, None where none is kept."""
        return None if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take a state; the scheduler itself may not exist yet."""
        self._state = state
        if self.scheduler is not None and state is not None:
            self.scheduler.load_state_dict(state)

    def step(self, interval: Interval) -> None:
        """One step, if this is its interval; a plateau scheduler is left alone."""
        if self.scheduler is not None and interval == self.interval and not self.plateau:
            cast("LRScheduler", self.scheduler).step()

    def step_plateau(self, trainer: pl.Trainer) -> None:
        """The step of a plateau scheduler for this epoch, on the metric that was just logged.

        Once an epoch: a module does it in its hook, a callback where the hook was overridden.

        Raises:
            ValueError: where the metric is not logged; names those that are.
        """
        epoch = epoch_of(trainer)
        if not isinstance(self.scheduler, ReduceLROnPlateau) or self._followed == epoch:
            return
        self._followed = epoch
        if self.monitor.startswith("val/") and not has_validated(trainer):
            return
        metric = trainer.callback_metrics.get(self.monitor)
        if metric is None:
            logged = sorted(trainer.callback_metrics)
            raise ValueError(
                f"model.scheduler_monitor: '{self.monitor}' is not logged; logged: {logged}"
            )
        self.scheduler.step(float(metric))


class ScheduleSteps(pl.Callback):
    """Steps a module's own schedule where Lightning would step one, before the module's hooks."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a schedule that would never be stepped."""
        if self.schedule.scheduler is None:
            raise ValueError(
                f"model.scheduler: {type(pl_module).__name__} makes its optimisers itself and does"
                " not build it; leave it out, or hand it to self.schedule.keep"
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Step at the start."""
        self.schedule.step("epoch_start")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Step after a batch."""
        self.schedule.step("step")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Step at the end."""
        self.schedule.step("epoch")


class PlateauSteps(pl.Callback):
    """Steps a plateau scheduler before the checkpoint, if the module's own hook has not."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Step on what validation has just logged."""
        self.schedule.step_plateau(trainer)
