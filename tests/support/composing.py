"""Hydra asked once, in a process of the tests, for what it was asked before.

Composing costs a third of a second, and most tests compose the same few experiments. What Hydra
makes of overrides depends on the files of its search path alone: references, to the environment
too, are resolved by who reads the config. Single values are set in a copy of what the chosen files
make, as ``compose_cache`` does for a plan; the tests of that, and of Hydra, ask for ``alone``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra

from retable.config.compose_cache import Memory
from retable.util import paths

alone = hydra.compose
"""Hydra's own."""
_known: dict[tuple[object, ...], Any] = {}
_memories: dict[tuple[object, ...], Memory] = {}


def install() -> None:
    """From now on, in this process."""
    hydra.compose = _once


def _once(config_name: str, overrides: Sequence[str] = (), **more: Any) -> Any:
    if more or not GlobalHydra.instance().is_initialized():
        return alone(config_name, overrides=list(overrides), **more)
    searched = str(GlobalHydra.instance().config_loader().get_search_path())
    place = (config_name, searched, *_stamps())
    key = (place, *overrides)
    if key not in _known:
        _known[key] = _by_shortcut(place, overrides) or alone(config_name, overrides=[*overrides])
    return copy.deepcopy(_known[key])


def _by_shortcut(place: tuple[object, ...], overrides: Sequence[str]) -> Any:
    """None where no single value is set, or it is not as simple as that."""
    if not any(text.startswith("++") for text in overrides):
        return None
    if place not in _memories:
        _memories[place] = Memory(ExitStack())
    return _memories[place]._shortcut(overrides)


def _stamps() -> list[object]:
    """Every file and folder that Hydra may read, and when it was changed."""
    found: list[object] = []
    todo = [str(root) for root in paths.conf_dirs()]
    while todo:
        folder = todo.pop()
        found.append(folder)
        for entry in os.scandir(folder):
            if entry.is_dir():
                todo.append(entry.path)
            else:
                stat = entry.stat()
                found.append((entry.path, stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return found
