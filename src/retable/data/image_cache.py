"""Decoded image sets, kept in the cache under the checksum of their arrays."""

from __future__ import annotations

import contextlib
import math
import secrets
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor

from retable.data.arrays import Arrays, checksum
from retable.data.base import DataPaths
from retable.data.fetch import locked
from retable.data.hub import decode
from retable.data.image_sets import image_set
from retable.util.errors import UserError

_SAY_EVERY_S = 2.0


def cache_file(name: str, sha256: str, cache: Path) -> Path:
    """Where the decoded arrays of a set are kept."""
    return cache / "images" / f"{name}-{sha256[:16]}.safetensors"


def load(name: str, sha256: str | None, paths: DataPaths) -> dict[str, Tensor]:
    """Arrays of a set as tensors, from the cache, which is filled first where needed.

    Args:
        name: short name of the set.
        sha256: checksum of the decoded arrays (:func:`retable.data.arrays.checksum`).
        paths: mirror and cache.

    Returns:
        ``<split>/images`` ``(N, H, W, C)`` uint8 and ``<split>/labels`` ``(N,)`` int64.

    Raises:
        DataUnavailable: without mirror and network; the message says both remedies.
        UserError: where the arrays are not those of the checksum, or no checksum is given.
    """
    image_set(name)
    file = cache_file(name, sha256 or "unknown", paths.cache)
    if not file.is_file():
        _fill(name, sha256, file, paths)
    arrays = read_tensors(file)
    if arrays is None or checksum(arrays) != sha256:
        raise UserError(
            f"{file}: is truncated or altered (not the arrays of checksum"
            f" {(sha256 or '')[:12]}); delete it, it is made again"
        )
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def _fill(name: str, sha256: str | None, file: Path, paths: DataPaths) -> None:
    with writable(file), locked(file):
        if file.is_file():  # another process was faster
            return
        for left in file.parent.glob(f".{file.name}.*.tmp"):  # by a process that was killed
            left.unlink()
        arrays = decode(name, mirror=paths.mirror, say=every(_SAY_EVERY_S))
        found = checksum(arrays)
        if sha256 is None:
            raise UserError(
                f"data.checksum: none is given for data set {name}; what was decoded here has"
                f" {found}. A set that retable knows is taken whole with data={name}; else, if you"
                " trust the source, write that checksum into the data set's config"
            )
        if found != sha256:
            raise UserError(
                f"data set {name}: was decoded to other arrays (checksum {found[:12]}, expected"
                f" {sha256[:12]}). If that checksum is another set's, take this one whole with"
                f" data={name}; else mend the mirror, or take a source with the original images"
            )
        write_tensors(file, arrays)


@contextlib.contextmanager
def writable(file: Path) -> Generator[None]:
    """Say what it means where a file of the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or file}: {error.strerror or error}; set RETABLE_CACHE"
        ) from None


def write_tensors(file: Path, arrays: Arrays) -> None:
    """Write a safetensors file under a temporary name and rename it."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.write_bytes(safetensors.numpy.save(arrays))
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(file: Path) -> Arrays | None:
    """Arrays of a safetensors file, None where it cannot be read as one."""
    try:
        arrays: dict[str, Any] = safetensors.numpy.load_file(file)
    except (SafetensorError, OSError, ValueError):
        return None
    return {name: np.asarray(array) for name, array in arrays.items()}


def every(seconds: float) -> Callable[[str], None]:
    """A teller for standard error that speaks at once and then now and then."""
    last = -math.inf

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return say
