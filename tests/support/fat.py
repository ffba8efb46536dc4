"""Adversarial training of the smoke run's network, without a trainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retable.training.execute import build
from support.training import config

SMOKE = "converge_smooth/smoke"


def made(*overrides: str) -> Any:
    """The module of a smoke run, in training mode."""
    _, module = build(config(*overrides, experiment=SMOKE))
    module.train()
    return module


def batch(n: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Images ``(n, 3, 16, 16)``, their labels and places in the set."""
    images = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(n) % 10, torch.arange(n)


def step(module: Any) -> Any:
    """A step on that batch, with the noise that is drawn first."""
    module._draws.manual_seed(0)
    return module.shared_step(batch())
