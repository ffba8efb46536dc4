"""Tensors without content: shapes, types and devices, from which a step can be counted."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode


class _Copies(TorchFunctionMode):
    """Copies of fake tensors by ``copy.deepcopy``, as metrics are cloned; torch makes none."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


@contextmanager
def faked() -> Generator[FakeTensorMode]:
    """Within the block tensors are made without content, and real ones are taken as such."""
    # What cannot be done without content is an exception, which torch logs as well.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, _Copies():
            yield mode
    finally:
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
