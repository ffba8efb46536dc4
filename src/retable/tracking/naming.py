"""Names of a run in W&B: id, name, group and project. Pure functions of what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retable.config.schema import RunConfig

FOLDER = "_wandb"
"""Folder below the runs with everything that belongs to W&B."""

KEY_CHARACTERS = 12
CODE_CHARACTERS = 6
SHORT_KEY = 8


def folder(runs: Path) -> Path:
    """Folder of W&B's own files; the library makes ``wandb/`` with one folder a segment in it."""
    return runs / FOLDER


def run_id(key: str, fingerprint: str, generation: int = 0) -> str:
    """Id of a run in W&B.

    The same for all attempts that go on from each other's checkpoints; another one where the code
    has changed, and where an attempt starts anew although an earlier one has logged something.

    Args:
        key: the run's key.
        fingerprint: of the code that computes it.
        generation: how often it was started anew.
    """
    base = f"{key[:KEY_CHARACTERS]}{fingerprint[:CODE_CHARACTERS]}"
    return f"{base}g{generation}" if generation else base


def generation_of(identifier: str) -> int:
    """Number of times that the run of an id was started anew."""
    return int(identifier[KEY_CHARACTERS + CODE_CHARACTERS + 1 :] or 0)


def display_name(config: RunConfig, key: str) -> str:
    """``paper experiment s3 3f2a91c0``; without the experiment for a run that has none.

    The key is what tells rows of a table apart: they are one experiment with other settings.

    Args:
        config: of the run.
        key: its key, of which the first characters are used.
    """
    experiment = (config.experiment or "").removeprefix(f"{config.paper}/")
    parts = (config.paper, experiment, f"s{config.seed}", key[:SHORT_KEY])
    return " ".join(part for part in parts if part)


def group(config: RunConfig) -> str:
    """The experiment; runs without one are grouped by their paper."""
    return config.experiment or config.paper
