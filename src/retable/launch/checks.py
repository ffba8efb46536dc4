"""Checks of the runs of one launch: what they must share, and what this machine offers them."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retable.config.schema import RunConfig
from retable.launch.error_messages import line_of
from retable.launch.prepare import check_mirror
from retable.runs import provenance
from retable.runs.frozen import FrozenRun
from retable.util.errors import UserError


def check_together(runs: Sequence[FrozenRun]) -> None:
    """Refuse runs that one launch cannot do.

    Raises:
        UserError: where launcher, paths or cluster differ, the folder of runs cannot be written, or
            this machine cannot do what the launch is to do here.
    """
    first = runs[0].config
    for run in runs:
        for section in ("launcher", "paths", "cluster"):
            if _shared(run.config, section) != _shared(first, section):
                raise UserError(f"{section}: differs between runs of one launch; it may not")
    check_mirror(first.paths.mirror)
    folder = Path(first.paths.runs)
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"paths.runs: {folder.absolute()} cannot be written to")
    slurm = first.launcher.name == "slurm"
    kinds = {run.config.device.accelerator for run in runs}
    # What there is here says nothing about a cluster's nodes.
    here = slurm or kinds == {"cpu"} or provenance.gpu()[0] is not None
    if "gpu" in kinds and not here:
        raise UserError("device.accelerator=gpu: there is no NVIDIA GPU here; auto or cpu would do")
    for config in (run.config for run in runs if run.config.trainer.precision == "16-mixed"):
        on_gpu = config.resources.gpus > 0 if slurm else here
        if config.device.accelerator == "cpu" or not on_gpu:
            raise UserError(
                "trainer.precision: 16-mixed needs a GPU; without one Lightning computes in"
                " bfloat16, which bf16-mixed says"
            )


def _shared(config: RunConfig, section: str) -> object:
    """Part of a config that is the same for all runs of a launch; some may measure time."""
    if section == "launcher":
        return config.launcher.model_copy(update={"alone": False})
    return getattr(config, section)


def workers_of(run: FrozenRun) -> int:
    """Runs that a launch keeps going at once."""
    config = run.config
    if config.launcher.workers is not None:
        return config.launcher.workers
    cores = len(os.sched_getaffinity(0))
    return max(1, cores // (config.device.threads * config.device.devices))


@contextmanager
def written_into(runs_folder: Path) -> Generator[None]:
    """Something is written into the folder of runs, which is made where it is not there.

    Raises:
        UserError: where it cannot be.
    """
    try:
        runs_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be made ({error.strerror})"
        raise UserError(f"paths.runs: {runs_folder.absolute()} {reason}") from None
    try:
        yield
    except OSError as error:
        raise UserError(f"paths.runs: {line_of(error, runs_folder.absolute())}") from None
