"""Fetch and decode what runs will read, once, before they start: data and files of weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.runs.frozen import FrozenRun


def prepare(runs: Iterable[FrozenRun], say: Callable[[str], None]) -> list[str]:
    """Call ``prepare_data`` of every distinct data module of some runs, and have their weights.

    Returns:
        One line per data module and file of weights.

    Raises:
        UserError: where data cannot be had or is not what it should be.
    """
    # By setting, not by seed: preparing may not depend on the seed.
    settings: dict[str, tuple[dict[str, Any], FrozenRun]] = {}
    whole = [above for run in runs for above in (*run.chain, run)]
    for run in whole:
        settings.setdefault(repr(sorted(run.config.data.items())), (run.config.data, run))
    if settings:
        say(f"preparing {len(settings)} data setting{'s' if len(settings) > 1 else ''}")
    from retable.training.execute import build_data

    done: list[str] = []
    problems: list[UserError] = []
    for data, run in settings.values():
        check_mirror(run.config.paths.mirror)
        try:
            build_data(data, run.config.seed, run.config.paths.model_dump()).prepare_data()
        except UserError as error:
            problems.append(error)  # what can be had is prepared all the same
            continue
        options = ", ".join(f"{k}={v}" for k, v in data.items() if k != "_target_")
        done.append(f"{data['_target_'].rpartition('.')[2]}({options}) is ready")
    try:
        done += [f"{name} is ready" for name in fetch_weights(whole, say)]
    except UserError as error:
        problems.append(error)
    if problems:
        for text in [*done, *map(str, problems[1:])]:
            say(text)
        raise problems[0]
    return done


def fetch_weights(runs: Iterable[FrozenRun], say: Callable[[str], None]) -> list[str]:
    """Have the files of weights that runs start from; returns their names.

    Raises:
        UserError: where one cannot be had or has another checksum.
    """
    found: dict[str | None, str] = {}
    for run in runs:
        start = run.config.start
        if start is None or start.file is None or start.sha256 in found:
            continue
        from retable.runs import weight_files

        weight_files.have(start, run.config.paths, say)
        found[start.sha256] = start.file
    return list(found.values())


def check_mirror(mirror: str | None) -> None:
    """Refuse a mirror that is not a folder.

    Raises:
        UserError: naming the variable or the key that gave it.
    """
    if mirror is not None and not Path(mirror).is_dir():
        given = "RETABLE_MIRROR" if mirror == os.environ.get("RETABLE_MIRROR") else "paths.mirror"
        raise UserError(f"{given}={mirror}: is not a folder; correct it or unset it")
