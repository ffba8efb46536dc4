"""One run: build, fit, test. Everything that can change a number is reached from here.

Attempts, leases and records are around it (``retable.launch.job``), so that changing them does
not change the fingerprint of the code that computes.
"""

from __future__ import annotations

import hashlib
import logging
import random
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from lightning_fabric.utilities.warnings import PossibleUserWarning

from retable.data.base import DataPaths, PaperDataModule
from retable.papers.base import PaperModule, Result
from retable.training import data_parallel
from retable.training.checkpointing import Checkpointer, EpochSeeds, Guard, History, Resume, Stop
from retable.training.fast_hooks import NoProfiler, Together
from retable.training.seeds import derive_seed


class Diverged(Exception):
    """A metric became NaN or infinite, or passed its declared bound."""


class Interrupted(Exception):
    """The run was asked to stop: at the end of an epoch, or between batches of the test."""


@dataclass
class Outcome:
    """What a run computed.

    Attributes:
        results: every number, sorted by metric, row and step.
        history: one mapping per epoch, ``{"epoch": k, "train/loss": ...}``.
        weights_sha256: of the tested weights; None for a method without weights.
        timing_metrics: metrics that measure time.
        device: type of the device that computed.
        best_epoch: epoch whose weights were tested, where one is chosen.
    """

    results: list[Result]
    history: list[dict[str, float]]
    weights_sha256: str | None
    timing_metrics: list[str]
    device: str
    best_epoch: int | None = None


@dataclass
class Context:
    """What an attempt gives to its run.

    Attributes:
        folder: the attempt's own folder.
        identity: key and fingerprint, written into every checkpoint.
        resume: where to go on, if anywhere.
        should_stop: asked at the end of every epoch and before every batch of the test.
        on_epoch: told the rows of the history so far, after the checkpoint is durable.
        trainer: further options of the Trainer: the devices, and how processes work together.
    """

    folder: Path
    identity: dict[str, str] = field(default_factory=dict[str, str])
    resume: Resume | None = None
    should_stop: Any = None
    on_epoch: Any = None
    trainer: dict[str, Any] = field(default_factory=lambda: {"devices": 1})


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def weights_sha256(module: torch.nn.Module) -> str | None:
    """Hash of names, types, shapes and bytes of a module's state, None where it has none."""
    state = module.state_dict()
    if not state:
        return None
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = cast("torch.Tensor", state[name]).detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
    """Instantiate the data and model of a validated config, initialisation seeded."""
    seed = int(config["seed"])
    data = build_data(config["data"], seed, config["paths"])
    seed_everything(derive_seed(seed, "init"))
    # Partial first: Hydra would turn an object among its arguments into a config.
    module = instantiate({**config["model"], "_partial_": True}, _convert_="all")
    return data, module(seed=seed)


def execute(config: dict[str, Any], context: Context) -> Outcome:
    """Run the stages of a validated config.

    Raises:
        Diverged: where a logged metric is not finite or above its bound.
        Interrupted: where the context asked to stop.
    """
    _quiet()
    data, module = build(config)
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
    callbacks: list[pl.Callback] = [
        *instantiate(config.get("callbacks") or {}, _convert_="all").values(),
        Together(
            [
                Stop(context.should_stop, Interrupted),
                EpochSeeds(int(config["seed"]), seed_everything),
                Guard(config.get("diverged_above") or {}, Diverged),
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
        checkpointer.load_tested_weights(module)
        module.on_history(history.rows)
    if "test" in stages:
        seed_everything(derive_seed(int(config["seed"]), "test", *data_parallel.axes()))
        tested = trainer.test(module, datamodule=data, verbose=False)
        for metrics in tested:
            for name, value in metrics.items():
                module.add_result(name, value)
    _check_results(module.results)
    return Outcome(
        results=sorted(module.results, key=lambda r: (r.metric, r.row, r.step or 0)),
        history=history.rows,
        weights_sha256=weights_sha256(module),
        timing_metrics=sorted(module.timing_metrics),
        device=trainer.strategy.root_device.type,
        best_epoch=checkpointer.best_epoch,
    )


def _check_results(results: list[Result]) -> None:
    seen: set[tuple[str, str, int | None]] = set()
    for result in results:
        address = (result.metric, result.row, result.step)
        if address in seen:
            raise ValueError(f"result {address} was recorded twice")
        seen.add(address)


def _trainer(config: dict[str, Any], context: Context, callbacks: list[pl.Callback]) -> pl.Trainer:
    options = {k: v for k, v in config["trainer"].items() if k != "checkpoint_every_n_epochs"}
    torch.use_deterministic_algorithms(bool(options.get("deterministic", True)), warn_only=False)
    return pl.Trainer(
        **{k: v for k, v in options.items() if v is not None},
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
    # Advice on loaders and batch sizes; the loaders are what the paper's protocol says.
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
