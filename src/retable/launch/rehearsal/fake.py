"""Tensors without content: shapes, types and devices, from which a step can be counted."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from retable.util.errors import brief

UNKNOWN = (DataDependentOutputException, DynamicOutputShapeException)
"""What torch raises where a value is asked for that is not there."""

NUMPY = "its step leaves torch for NumPy"

_APPLY = "_apply"
"""By which a module's weights are moved and converted."""


class Faked(FakeTensorMode):
    """Tensors without content, and real ones taken as such; may be entered again and again."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._no_device = super().avoid_device_init

    @property
    def avoid_device_init(self) -> bool:
        """Whether there is no accelerator; torch would look for one at every operation."""
        return self._no_device


def _copied(self: Tensor, memo: Any) -> Tensor:
    """A copy by ``copy.deepcopy``, as metrics are cloned; torch makes none of a fake tensor."""
    if id(self) not in memo:
        memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
    return memo[id(self)]


def _applied(self: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
    """Move or convert a module's tensors; torch cannot do so in place where they are fake."""
    for part in self.modules() if recurse else [self]:
        for name, weight in part.named_parameters(recurse=False):
            new = cast("Tensor", fn(weight))
            if new is not weight:
                part.register_parameter(name, nn.Parameter(new, weight.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, fn(buffer))
    return self


@contextmanager
def faked(mode: Faked | None = None) -> Generator[Faked]:
    """Within the block tensors are made without content, and real ones are taken as such.

    Args:
        mode: of an earlier block, to go on with its tensors.
    """
    # What cannot be done without content is an exception, which torch logs as well.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level, copied, applied = log.level, Tensor.__deepcopy__, getattr(nn.Module, _APPLY)
    log.setLevel(logging.CRITICAL)
    Tensor.__deepcopy__ = _copied
    setattr(nn.Module, _APPLY, _applied)
    try:
        with mode or Faked() as entered:
            yield entered
    finally:
        Tensor.__deepcopy__ = copied
        setattr(nn.Module, _APPLY, applied)
        log.setLevel(level)


def why_not(error: RuntimeError) -> str:
    """Why a step cannot be done without content, by the error that it ended with."""
    if isinstance(error, UNKNOWN):
        return "its step depends on values"
    if "numpy" in str(error):
        return NUMPY
    return f"its step needs real tensors ({brief(str(error))})"
