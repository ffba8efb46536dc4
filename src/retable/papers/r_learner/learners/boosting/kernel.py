"""Compilation of functions by numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_njit: Any = numba.njit
_settings: Any = vars(numba)["config"]
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}


@cache
def _cache_folder() -> str:
    """Where compiled code is kept: a folder of its own for each state of these sources.

    By itself numba looks only at the file of a function to see whether its compiled code is still
    good, not at those of the functions that it calls.
    """
    here = Path(__file__).parent
    state = sha256(b"".join(file.read_bytes() for file in sorted(here.glob("*.py")))).hexdigest()
    return str(here / "__pycache__" / state[:16])


def _compile(function: F, **options: Any) -> F:
    before, _settings.CACHE_DIR = _settings.CACHE_DIR, _cache_folder()
    try:
        return cast(F, _njit(**_OPTIONS, **options)(function))
    finally:
        _settings.CACHE_DIR = before


def kernel(function: F) -> F:
    """Compile, without any change of the arithmetic: no fused or reordered operations."""
    return _compile(function)


def inner(function: F) -> F:
    """As :func:`kernel`, for what is called very often.

    References to arrays are not counted, which would take longer than some of the functions do. So
    such a function cannot make an array: those that it is given outlive it.
    """
    return _compile(function, _nrt=False)
