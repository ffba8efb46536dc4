"""Decoded image sets as arrays, and the checksum that is their identity."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
"""``<split>/images`` ``(N, H, W, C)`` uint8 and ``<split>/labels`` ``(N,)`` int64, by split."""


def checksum(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and bytes of arrays: what a data set's identity is."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()
