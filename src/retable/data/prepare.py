"""Fetch and decode what runs will read, once, before they start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.errors import UserError

if TYPE_CHECKING:
    from retable.launch.frozen import FrozenRun


def prepare(runs: Iterable[FrozenRun], say: Callable[[str], None]) -> list[str]:
    """Call ``prepare_data`` of every distinct data module of some runs.

    Returns:
        One line per data module prepared.

    Raises:
        UserError: where data cannot be had or is not what it should be.
    """
    # By setting, not by seed: preparing may not depend on the seed.
    settings: dict[str, tuple[dict[str, Any], FrozenRun]] = {}
    for run in runs:
        settings.setdefault(repr(sorted(run.config.data.items())), (run.config.data, run))
    if settings:
        say(f"preparing {len(settings)} data setting{'s' if len(settings) > 1 else ''}")
    from retable.run import build_data

    done: list[str] = []
    for data, run in settings.values():
        mirror = run.config.paths.mirror
        if mirror is not None and not Path(mirror).is_dir():
            given = (
                "RETABLE_MIRROR" if mirror == os.environ.get("RETABLE_MIRROR") else "paths.mirror"
            )
            raise UserError(f"{given}={mirror}: is no folder; correct it or unset it")
        build_data(data, run.config.seed, run.config.paths.model_dump()).prepare_data()
        options = ", ".join(f"{k}={v}" for k, v in data.items() if k != "_target_")
        done.append(f"{data['_target_'].rpartition('.')[2]}({options}) is ready")
    return done
