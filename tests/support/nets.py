"""What the tests of the shared networks have in common."""

from __future__ import annotations

from typing import Any

import hydra.utils
import torch
from torch import nn

from retable.config.targets import check, unchecked


def configured(name: str, /, **arguments: Any) -> Any:
    """A network as a config builds it: every argument is of a type that is known and checked."""
    node = {"_target_": f"retable.nets.{name}", **arguments}
    assert check(node, "net") == node
    assert unchecked(node, set()) == []
    return hydra.utils.instantiate(node)


def size(name: str, /, **arguments: Any) -> int:
    """How many parameters a network has; nothing is computed."""
    with torch.device("meta"):
        return count(configured(name, **arguments))


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def conv(n_in: int, n_out: int, kernel: int = 3, bias: int = 0) -> int:
    """Parameters of a convolution."""
    return kernel**2 * n_in * n_out + bias * n_out


def every_gradient(net: nn.Module, x: torch.Tensor) -> None:
    """Every parameter gets a gradient, which is not zero unless a norm takes a bias out again."""
    out = net(x)
    maps = out.values() if isinstance(out, dict) else [out]
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert name.endswith("bias") or parameter.grad.abs().sum() > 0, name


def same_draw(name: str, /, **arguments: Any) -> None:
    """Weights come from torch's generator and from nowhere else."""

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in configured(name, **arguments).parameters()])

    assert weights(0).equal(weights(0))
    assert not weights(0).equal(weights(1))
