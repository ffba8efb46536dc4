"""Tensors without content: shapes, types and devices, from which a step can be counted."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


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


@contextmanager
def faked(mode: Faked | None = None) -> Generator[Faked]:
    """Within the block tensors are made without content, and real ones are taken as such.

    Args:
        mode: of an earlier block, to go on with its tensors.
    """
    # What cannot be done without content is an exception, which torch logs as well.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level, copied = log.level, Tensor.__deepcopy__
    log.setLevel(logging.CRITICAL)
    Tensor.__deepcopy__ = _copied
    try:
        with mode or Faked() as entered:
            yield entered
    finally:
        Tensor.__deepcopy__ = copied
        log.setLevel(level)


def convertible(module: nn.Module) -> None:
    """Let a module of fake weights be moved and converted, which torch cannot do in place."""

    def apply(fn: Any, recurse: bool = True) -> nn.Module:
        for part in module.modules() if recurse else [module]:
            for name, weight in part.named_parameters(recurse=False):
                new = cast("Tensor", fn(weight))
                if new is not weight:
                    part.register_parameter(name, nn.Parameter(new, weight.requires_grad))
            for name, buffer in part.named_buffers(recurse=False):
                setattr(part, name, fn(buffer))
        return module

    module.__dict__["_apply"] = apply
