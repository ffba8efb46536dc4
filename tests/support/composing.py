"""Hydra asked once, by all processes of the tests, for what it was asked before.

Composing costs a fifth of a second, and most tests compose the same few experiments. What Hydra
makes of overrides depends on the files of its search path alone: references, to the environment
too, are resolved by who reads the config. Single values are set in a copy of what the chosen files
make, as ``compose_cache`` does for a plan; the tests of that, and of Hydra, ask for ``alone``, and
the commands that they start have ``ALONE`` in their environment.
"""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra

from retable.config.compose_cache import Memory
from retable.util import paths

ALONE = "RETABLE_TESTS_COMPOSE"
SHARED = "RETABLE_TESTS_SHARED"
"""Environment variable: folder of what all processes of the tests share. Without it each has its
own memory, and nothing is unpickled, which the fuzz would take for what was read."""
alone = hydra.compose
"""Hydra's own."""
_known: dict[str, Any] = {}
_pickled: dict[str, bytes] = {}
"""The same, of which a copy is made in an eighth of the time."""
_memories: dict[str, Memory] = {}


def install() -> None:
    """From now on, in this process."""
    hydra.compose = alone if ALONE in os.environ else _once


def remove() -> None:
    """Not any longer; nothing is forgotten."""
    hydra.compose = alone


def _once(config_name: str, overrides: Sequence[str] = (), **more: Any) -> Any:
    if more or not GlobalHydra.instance().is_initialized():
        return alone(config_name, overrides=list(overrides), **more)
    roots = [str(root) for root in paths.conf_dirs()]
    searched = str(GlobalHydra.instance().config_loader().get_search_path())
    place = repr((config_name, searched, [_stamps(root) for root in roots]))
    asked = repr([*overrides])
    for number, root in enumerate(roots):  # each process of the tests has its own copy of the last
        place, asked = (text.replace(root, f"<{number}>") for text in (place, asked))
    key = hashlib.sha256(f"{place}\n{asked}".encode("utf-8", "surrogateescape")).hexdigest()
    if key not in _known:
        found = _read(key)
        if found is None:
            made = _by_shortcut(place, overrides)
            found = alone(config_name, overrides=[*overrides]) if made is None else made
            _write(key, found)
        _known[key] = found
    if SHARED not in os.environ:
        return copy.deepcopy(_known[key])
    if key not in _pickled:
        _pickled[key] = pickle.dumps(_known[key])
    return pickle.loads(_pickled[key])


def _by_shortcut(place: str, overrides: Sequence[str]) -> Any:
    """None where no single value is set, or it is not as simple as that."""
    if not any(text.startswith("++") for text in overrides):
        return None
    if place not in _memories:
        _memories[place] = Memory(ExitStack())
    return _memories[place]._shortcut(overrides)


def _stamps(root: str) -> list[object]:
    """Every file and folder that Hydra may read, and when it was changed."""
    found: list[object] = []
    todo = [root]
    while todo:
        folder = todo.pop()
        found.append(folder)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir():
                todo.append(entry.path)
            else:
                stat = entry.stat()
                found.append((entry.path, stat.st_mtime_ns, stat.st_size))
    return found


def _file(key: str) -> Path | None:
    shared = os.environ.get(SHARED)
    return Path(shared, "composed", key) if shared else None


def _read(key: str) -> Any:
    try:
        return pickle.loads(file.read_bytes()) if (file := _file(key)) else None
    except OSError:
        return None


def _write(key: str, made: Any) -> None:
    if (file := _file(key)) is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
            pickle.dump(made, part)
        Path(part.name).rename(file)
    except OSError:
        pass  # a full disk, or the session has ended
