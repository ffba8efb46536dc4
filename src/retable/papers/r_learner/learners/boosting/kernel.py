"""How functions are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


_compile: Any = njit
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}


def kernel(function: F) -> F:
    """Compile, without any change of the arithmetic: no fused or reordered operations."""
    return cast(F, _compile(**_OPTIONS)(function))


def inner(function: F) -> F:
    """As :func:`kernel`, for what is called very often.

    References to arrays are not counted, which would take longer than some of the functions do. So
    such a function cannot make an array: those that it is given outlive it.
    """
    return cast(F, _compile(**_OPTIONS, _nrt=False)(function))
