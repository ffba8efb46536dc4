"""How functions are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile, without any change of the arithmetic: no fused or reordered operations."""
    options = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}
    return cast(F, njit(**options)(function))
