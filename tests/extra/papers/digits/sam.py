"""Sharpness-Aware Minimisation as it is usually written: an optimiser around another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class SAM(Optimizer):
    """Ascends by ``rho`` along the gradient, takes the gradient there, steps from the old point.

    It evaluates its closure twice, and keeps nothing of the inner optimiser in its state.
    """

    def __init__(
        self, params: Iterable[Any], base_optimizer: Any, rho: float = 0.05, lr: float = 0.1
    ) -> None:
        super().__init__(params, {"rho": rho, "lr": lr})
        self.base_optimizer: Optimizer = base_optimizer(self.param_groups)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is not None
        with torch.enable_grad():
            loss = closure()
        old = []
        for group in self.param_groups:
            norm = torch.stack([p.grad.norm() for p in group["params"]]).norm()
            for p in group["params"]:
                old.append((p, p.clone()))
                p.add_(p.grad * (group["rho"] / norm))
        with torch.enable_grad():
            closure()
        for p, value in old:
            p.copy_(value)
        self.base_optimizer.step()
        return loss
