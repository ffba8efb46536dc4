"""One run: build, fit, test. Everything that can change a number is reached from here.

Attempts, leases and records are around it (``retable.launch.worker``), so that changing them does
not change the fingerprint of the code that computes.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from lightning_fabric.utilities.warnings import PossibleUserWarning

from retable.data.base import DataPaths, PaperDataModule
from retable.papers.base import PaperModule, Result
from retable.training import data_parallel
from retable.training.checkpointing import (
    Checkpointer,
    EpochSeeds,
    Guard,
    History,
    Resume,
    Saved,
    Stop,
)
from retable.training.fast_hooks import NoProfiler, Together
from retable.training.schedules import PlateauSteps, ScheduleSteps
from retable.training.seeds import derive_seed
from retable.training.start import Arrays, Start
from retable.training.tested import FinishWeights, weights_sha256
from retable.util.errors import UserError

_LIGHTNING = (
    "max_epochs",
    "min_epochs",
    "precision",
    "deterministic",
    "benchmark",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "detect_anomaly",
)
"""Options of a config's ``trainer`` that Lightning is handed where they are not null."""


class Diverged(Exception):
    """A metric became NaN or infinite, or passed its declared bound."""


class Interrupted(Exception):
    """The run was asked to stop: at the end of an epoch, or between batches of the test."""


@dataclass
class Outcome:
    """Outcome of a run's computation.

    Attributes:
        results: every number, sorted by metric, row and step.
        history: one mapping per epoch, ``{"epoch": k, "train/loss": ...}``.
        weights_sha256: of the weights that were tested, those of the first row by name where
            several are, before the module made them ready; None for a method without weights.
        timing_metrics: metrics that measure time.
        device: type of the device that computed.
        best_epoch: epoch whose weights were tested, where one is chosen.
        artifacts: arrays that the module declared, by name, on the CPU.
    """

    results: list[Result]
    history: list[dict[str, float]]
    weights_sha256: str | None
    timing_metrics: list[str]
    device: str
    best_epoch: int | None = None
    artifacts: dict[str, Arrays] = field(default_factory=dict[str, Arrays])


@dataclass
class Context:
    """Context that an attempt gives to its run.

    Attributes:
        folder: the attempt's own folder.
        identity: key and fingerprint, and whatever else a checkpoint has to carry.
        resume: where to go on, if anywhere.
        should_stop: asked at the end of every epoch and before every batch of the test.
        on_epoch: told the rows of the history so far, the checkpoint and the epochs it has done,
            after it is durable.
        trainer: further options of the Trainer: the devices, and how processes work together.
        start: what the run begins with, where another run left it.
    """

    folder: Path
    identity: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resume: Resume | None = None
    should_stop: Callable[[], bool] | None = None
    on_epoch: Saved | None = None
    trainer: dict[str, Any] = field(default_factory=lambda: {"devices": 1})
    start: Start | None = None


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def build_data(node: dict[str, Any], seed: int, paths: dict[str, str | None]) -> PaperDataModule:
    """Instantiate the data module of a validated config.

    Args:
        node: the config's ``data``.
        seed: the run's seed.
        paths: the config's ``paths``.
    """
    mirror, cache = paths.get("mirror"), paths["cache"]
    assert cache is not None
    data_paths = DataPaths(Path(cache), Path(mirror) if mirror else None)
    return instantiate({**node, "_partial_": True}, _convert_="all")(seed=seed, paths=data_paths)


def build(config: dict[str, Any]) -> tuple[PaperDataModule, PaperModule]:
    """Instantiate the data and model of a validated config, initialisation seeded.

    Raises:
        UserError: for options of the Trainer that the module cannot have.
    """
    seed = int(config["seed"])
    data = build_data(config["data"], seed, config["paths"])
    seed_everything(derive_seed(seed, "init"))
    # Partial first: Hydra would turn an object among its arguments into a config.
    module = instantiate({**config["model"], "_partial_": True}, _convert_="all")
    model: PaperModule = module(seed=seed)
    if "fit" in config["stages"] and not model.automatic_optimization:
        _check_manual(model, config["trainer"])
    return data, model


def _check_manual(module: PaperModule, options: Mapping[str, Any]) -> None:
    """Refuse what Lightning does in automatic optimisation only."""
    kind = type(module).__name__
    if type(module).training_step is PaperModule.training_step:
        raise UserError(
            f"model._target_: {kind} optimises by hand, but has no training_step that does so;"
            " override it, or leave automatic_optimization as it is"
        )
    if options.get("gradient_clip_val") is not None:
        raise UserError(
            f"trainer.gradient_clip_val: {kind} optimises by hand, where Lightning clips nothing;"
            " leave it out, make the bound an option of the model, and call"
            " self.clip_gradients(optimizer, gradient_clip_val=...) before optimizer.step()"
        )
    if options.get("accumulate_grad_batches", 1) != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches: {kind} optimises by hand, where Lightning"
            " accumulates nothing; leave it out, and step only every so many batches"
        )


def execute(config: dict[str, Any], context: Context) -> Outcome:
    """Run the stages of a validated config.

    Raises:
        Diverged: where a logged metric is not finite or above its bound.
        Interrupted: where the context asked to stop.
    """
    _quiet()
    data, module = build(config)
    if context.start is not None:
        data.take_start(context.start)
        module.take_start(context.start)
    stages = cast("list[str]", config["stages"])
    history = History()
    checkpointer = Checkpointer(
        context.folder / "checkpoints",
        context.identity,
        history,
        best=config.get("best_epoch"),
        every=config["trainer"].get("checkpoint_every_n_epochs", 1),
        on_saved=context.on_epoch,
        should_stop=context.should_stop,
        interrupted=Interrupted,
    )
    finish = FinishWeights()
    callbacks: list[pl.Callback] = [
        *instantiate(config.get("callbacks") or {}, _convert_="all").values(),
        *([ScheduleSteps(module.schedule)] if module.keeps_schedule else []),
        Together(
            [
                Stop(context.should_stop, Interrupted),
                EpochSeeds(int(config["seed"]), seed_everything),
                Guard(config.get("diverged_above") or {}, Diverged),
                PlateauSteps(module.schedule),
                finish,
                checkpointer,
            ]
        ),
    ]
    trainer = _trainer(config, context, callbacks)
    if "fit" in stages:
        resume = context.resume
        if resume is not None:
            checkpointer.restore(resume)
        if resume is None or not resume.fitted:
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=str(resume.path) if resume else None,
                weights_only=False,  # a file of this run's own folder
            )
        else:
            trainer.fit_loop.load_state_dict(resume.loops)
    chosen: Literal["last", "best"] = "last" if checkpointer.best is None else "best"
    tested: dict[str, dict[str, Any]] = config.get("tested") or {"": {"epoch": chosen}}
    if len(tested) > 1:
        checkpointer.keep_last(module)
    outcome = Outcome(module.results, history.rows, None, sorted(module.timing_metrics), "")
    for number, (row, which) in enumerate(sorted(tested.items())):
        epoch = checkpointer.load_weights(module, which.get("epoch", "last"))
        if number == 0 and "fit" in stages:
            module.on_history(history.rows)
        module.row_prefix, finish.name = row, which.get("weights")
        if history.rows:
            tested_epoch = int(history.rows[-1]["epoch"]) if epoch is None else epoch
            # Whoever asks for the epoch, such as the order of training data, is told that of the
            # weights: the same whether the fit has just ended or was another attempt's.
            progress = cast("Any", trainer.fit_loop.epoch_progress.current)
            progress.processed = progress.completed = tested_epoch + 1
            if row and "test" in stages:
                module.add_result("test/epoch", float(tested_epoch))
        if "test" in stages:
            _test(trainer, module, data, int(config["seed"]))
        if number == 0:
            outcome.weights_sha256 = finish.before or weights_sha256(module)
            outcome.best_epoch = epoch
            outcome.artifacts = _checked_artifacts(module.artifacts())
    _check_results(module.results)
    outcome.results = sorted(module.results, key=lambda r: (r.metric, r.row, r.step or 0))
    outcome.device = trainer.strategy.root_device.type
    return outcome


def _test(trainer: pl.Trainer, module: PaperModule, data: PaperDataModule, seed: int) -> None:
    """Test the weights that are in the module; every test draws the same."""
    seed_everything(derive_seed(seed, "test", *data_parallel.axes()))
    for metrics in trainer.test(module, datamodule=data, verbose=False):
        for name, value in metrics.items():
            module.add_result(name, value)


def _checked_artifacts(artifacts: Any) -> dict[str, Arrays]:
    shape = "artifacts has to return {name: {name: tensor}}"
    if not isinstance(artifacts, dict):
        raise ValueError(f"{shape}, not a {type(artifacts).__name__}")
    for name, arrays in artifacts.items():
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            raise ValueError(f"artifact '{name}': its name has to be one word, it names a file")
        if not isinstance(arrays, dict):
            raise ValueError(f"artifact '{name}': is a {type(arrays).__name__}; {shape}")
        given = cast("dict[Any, Any]", arrays)
        wrong = [key for key, array in given.items() if not isinstance(array, torch.Tensor)]
        if wrong or not arrays:
            raise ValueError(f"artifact '{name}': holds {wrong or 'nothing'}, which is no tensor")
    # Copies: what they were taken from is loaded with other weights for the next row.
    return {
        name: {key: array.detach().cpu().contiguous().clone() for key, array in arrays.items()}
        for name, arrays in artifacts.items()
    }


def _check_results(results: list[Result]) -> None:
    seen: set[tuple[str, str, int | None]] = set()
    for result in results:
        address = (result.metric, result.row, result.step)
        if address in seen:
            raise ValueError(f"result {address} was recorded twice")
        seen.add(address)


def _trainer(config: dict[str, Any], context: Context, callbacks: list[pl.Callback]) -> pl.Trainer:
    options = {k: config["trainer"].get(k) for k in _LIGHTNING}
    options = {k: v for k, v in options.items() if v is not None}
    torch.use_deterministic_algorithms(bool(options.get("deterministic", True)), warn_only=False)
    return pl.Trainer(
        **options,
        accelerator=config["device"]["accelerator"],
        **context.trainer,
        callbacks=callbacks,
        default_root_dir=context.folder,
        profiler=NoProfiler(),
        logger=False,
        enable_checkpointing=True,  # by our own Checkpoint; Lightning adds none beside it
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
    )


def _quiet() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    # Lightning 2.6 uses a spelling that torch 2.13 deprecates.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # A schedule may say that it is stepped before an epoch's first step.
    warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler.step\(\)` before")
    # Advice on loaders and batch sizes; the loaders are what the paper's protocol says.
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
