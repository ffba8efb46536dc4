"""Exact resume at epoch boundaries: seeds per epoch, history, guard and checkpoints.

A checkpoint holds everything: Lightning's loops, optimisers and schedulers, the history so far,
and the weights of the best epoch. One file, written to a temporary name and renamed, so a kill
leaves either the old state or the new one.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch

from retable.training import data_parallel
from retable.training.epochs import epoch_of, has_validated
from retable.training.nested_optimizers import NestedOptimizers, States

KEEP = 2
"""Checkpoints kept per attempt: the newest, and the one to fall back to."""


class EpochSeeds(pl.Callback):
    """Reseed the global generators from (seed, epoch) at the start of every epoch.

    Saving generator states instead is not enough: with workers, Lightning makes iterators, which
    draw from generators, at another moment on resume.
    """

    def __init__(self, seed: int, seed_everything: Callable[[int], None]) -> None:
        self.seed = seed
        self.seed_everything = seed_everything

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reseed."""
        self.seed_everything(data_parallel.epoch_seed(self.seed, epoch_of(trainer)))


class History:
    """One row of logged metrics per epoch; part of the checkpoint, so no epoch appears twice."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, trainer: pl.Trainer) -> None:
        """Append the row of the epoch that has just been processed."""
        row: dict[str, float] = {"epoch": epoch_of(trainer) - 1}
        validated = has_validated(trainer)
        for name, value in sorted(trainer.callback_metrics.items()):
            # In an epoch without validation Lightning still shows the values of the last one.
            if validated or not name.startswith("val/"):
                row[name] = float(value)
        self.rows.append(row)


class Guard(pl.Callback):
    """Stop a run whose metrics are not finite or above a declared bound.

    It looks once an epoch: reading a value waits for the device.
    """

    def __init__(self, bounds: dict[str, float], diverged: type[Exception]) -> None:
        self.bounds = bounds
        self.diverged = diverged

    def _check(self, trainer: pl.Trainer, epoch: int | None) -> None:
        where = "in the test" if epoch is None else f"in epoch {epoch}"
        found = next(self._wrong(trainer, where), None)
        # Together: what a module logs by itself may differ from process to process.
        if data_parallel.anywhere(found is not None):
            raise self.diverged(found or f"a metric of another process is out of bounds {where}")

    def _wrong(self, trainer: pl.Trainer, where: str) -> Iterator[str]:
        for name, tensor in sorted(trainer.callback_metrics.items()):
            value = float(tensor)
            if not math.isfinite(value):
                yield f"{name} is {value} {where}"
            elif value > self.bounds.get(name, math.inf):
                yield f"{name} is {value:g} {where}, above {self.bounds[name]:g}"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the epoch's metrics, before a checkpoint of them is written."""
        self._check(trainer, epoch_of(trainer) - 1)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the test's metrics."""
        self._check(trainer, None)


class Stop(pl.Callback):
    """Leave a test before its next batch when asked to, and keep SIGTERM as it was.

    Lightning answers SIGTERM by ending the process in the middle of an epoch; whoever runs us has
    said with a handler of its own what SIGTERM means.
    """

    def __init__(
        self, should_stop: Callable[[], bool] | None, interrupted: type[Exception]
    ) -> None:
        self.should_stop = should_stop
        self.interrupted = interrupted
        self.handler = signal.getsignal(signal.SIGTERM)

    def _restore(self) -> None:
        if self.handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take Lightning's handler away."""
        self._restore()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take Lightning's handler away."""
        self._restore()

    def on_test_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave: a test has no state worth keeping, and the one batch that runs may end it."""
        if self.should_stop is not None and self.should_stop():
            raise self.interrupted("stopped in the test")


@dataclass
class Resume:
    """A checkpoint to go on from, read once and known to be whole."""

    path: Path
    epoch: int
    fitted: bool
    history: list[dict[str, float]]
    best: dict[str, Any] | None
    weights: dict[str, Any] = field(default_factory=dict[str, Any])
    nested: States = field(default_factory=list[dict[str, dict[str, Any]]])
    loops: dict[str, Any] = field(default_factory=dict[str, Any])


def find_resume(
    folders: Iterable[Path], identity: Mapping[str, Any], on_broken: Callable[[str], None]
) -> Resume | None:
    """Newest whole checkpoint of this run, of the same key, fingerprint and device type.

    Args:
        folders: attempts' folders, newest first.
        identity: what the checkpoint must carry.
        on_broken: told of each file that cannot be read.
    """
    found: list[tuple[int, int, Path]] = []
    for order, folder in enumerate(folders):
        for path in (folder / "checkpoints").glob("epoch=*.ckpt"):
            found.append((int(path.stem.partition("=")[2]), -order, path))
    for epoch, _, path in sorted(found, reverse=True):
        try:
            # Only files that this project wrote into the run's own folder are loaded.
            content = torch.load(path, map_location="cpu", weights_only=False)
            state = content["retable"]
            carried = {name: state[name] for name in identity}
        except Exception as error:
            on_broken(
                f"{path.name} of attempt {path.parents[1].name} cannot be read"
                f" ({type(error).__name__}); falling back to the one before"
            )
            continue
        if carried != identity:
            continue
        return Resume(
            path=path,
            epoch=epoch,
            fitted=state["fitted"],
            history=state["history"],
            best=state["best"],
            weights=content["state_dict"],
            nested=state["nested"],
            loops=content["loops"]["fit_loop"],
        )
    return None


Saved = Callable[[list[dict[str, float]], Path, int], None]
"""Told the rows of the history, the checkpoint that is durable now, and the epochs it has done."""


class Checkpointer(pl.Callback):
    """Write a checkpoint at the end of an epoch, remember the best epoch, and stop when asked.

    It has to come last: after the module's own hook (plateau scheduler) and after early stopping
    has updated its state.

    Args:
        folder: of the checkpoints.
        identity: what every checkpoint carries, any mapping; :func:`find_resume` compares it.
        history: to be added to.
        best: which epoch is chosen, if any (the config's ``best_epoch``).
        every: epochs between checkpoints.
        on_saved: told of each.
        should_stop: asked at the end of every epoch.
        interrupted: raised where it says yes.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        history: History,
        *,
        best: dict[str, str] | None,
        every: int,
        on_saved: Saved | None,
        should_stop: Callable[[], bool] | None,
        interrupted: type[Exception],
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.history = history
        self.best_rule = best
        self.best: dict[str, Any] | None = None
        self.every = every
        self.on_saved = on_saved
        self.should_stop = should_stop
        self.interrupted = interrupted
        self._last: dict[str, Any] | None = None
        self._nested: NestedOptimizers | None = None
        self._resumed_nested: States | None = None

    @property
    def best_epoch(self) -> int | None:
        """Epoch whose weights are tested, None where the last one's are."""
        return None if self.best is None else int(self.best["epoch"])

    def restore(self, resume: Resume) -> None:
        """Take over history and best epoch of a checkpoint."""
        self.history.rows[:] = resume.history
        self.best = resume.best
        self._resumed_nested = resume.nested
        if resume.fitted:
            self._last = resume.weights

    def keep_last(self, module: pl.LightningModule) -> None:
        """Keep the weights that a fit ended with, to load them again after others."""
        if self._last is None:
            self._last = _copy(module)

    def load_weights(
        self, module: pl.LightningModule, epoch: Literal["last", "best"]
    ) -> int | None:
        """Put the weights of an epoch into the module; those that it has are the last ones.

        Returns:
            The epoch where one was chosen, None for the last.

        Raises:
            ValueError: where the best epoch is asked for and none was validated.
        """
        if epoch == "best" and self.best is None:
            raise ValueError("best_epoch: no epoch has validated, so that none is the best")
        weights = self.best["weights"] if epoch == "best" and self.best else self._last
        if weights is not None:
            module.load_state_dict(weights)
        return self.best_epoch if epoch == "best" else None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the optimisers inside of the run's, which Lightning has just made."""
        self._nested = NestedOptimizers(trainer.optimizers)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the states of inner optimisers back, after Lightning has those of the outer ones."""
        if self._nested is not None and self._resumed_nested is not None:
            self._nested.load_state_dict(self._resumed_nested)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add to the history, choose, save, and leave if asked to."""
        self.history.add(trainer)
        if self.best_rule is not None and has_validated(trainer):
            self._choose(trainer, pl_module)
        done = epoch_of(trainer)
        fitted = trainer.should_stop or done == trainer.max_epochs
        stop = self.should_stop is not None and self.should_stop()
        if data_parallel.writes() and (fitted or stop or done % self.every == 0):
            self.save(trainer, fitted=fitted)
        if stop and not fitted:
            raise self.interrupted(f"stopped after epoch {done - 1}")

    def _choose(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert self.best_rule is not None
        monitor = self.best_rule["monitor"]
        metric = trainer.callback_metrics.get(monitor)
        if metric is None:
            logged = sorted(trainer.callback_metrics)
            raise ValueError(f"best_epoch.monitor: '{monitor}' is not logged; logged: {logged}")
        score = float(metric)
        sign = 1.0 if self.best_rule["mode"] == "min" else -1.0
        best = math.inf if self.best is None else sign * float(self.best["score"])
        later = self.best_rule.get("ties") == "later"
        if sign * score < best or (later and sign * score == best):
            epoch = epoch_of(trainer) - 1
            self.best = {"epoch": epoch, "score": score, "weights": _copy(module)}

    def save(self, trainer: pl.Trainer, *, fitted: bool) -> None:
        """Write the checkpoint durably, then drop the oldest."""
        content = cast("dict[str, Any]", trainer._checkpoint_connector.dump_checkpoint())  # pyright: ignore[reportPrivateUsage]
        _close_epoch(content["loops"]["fit_loop"])
        content["retable"] = {
            **self.identity,
            "fitted": fitted,
            "history": self.history.rows,
            "best": self.best,
            "nested": [] if self._nested is None else self._nested.state_dict(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        done = epoch_of(trainer)
        target = self.folder / f"epoch={done:06d}.ckpt"
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        for old in sorted(self.folder.glob("epoch=*.ckpt"))[:-KEEP]:
            old.unlink()
        if self.on_saved is not None:
            self.on_saved(self.history.rows, target, done)


def _copy(module: pl.LightningModule) -> dict[str, Any]:
    return {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}


def _close_epoch(loop: dict[str, Any]) -> None:
    """Mark the epoch as completed, as Lightning does itself a moment later.

    The checkpoint is written in the epoch's last hook, where the counter of completed epochs is
    one behind; it then describes a state between two epochs, with nothing to guess on resuming.
    """
    for progress in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        progress["completed"] = progress["processed"]
