"""Sparse fine-tuning by lottery tickets (Ansell et al. 2022), the patch of a few weights.

Upstream, (i) all weights train, (ii) the most changed are selected, (iii) the network goes back to
its start and these alone train; their difference is the patch. Downstream it is added to the start,
and all but these train. Between (i) and (iii) an optimiser has to be new, and without weight decay,
either of which would move weights that get no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from retable.papers.peft_debias.bert import MaskedLM


def untie(model: MaskedLM) -> None:
    """Give the head's decoder a frozen copy of the embeddings, which are free to change then."""
    decoder: Any = model.cls["predictions"].decoder
    decoder.weight = nn.Parameter(decoder.weight.detach().clone(), requires_grad=False)


def freeze_layer_norm(model: nn.Module) -> None:
    """Let everything but LayerNorms and what is frozen already train (the authors' option)."""
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name:
            parameter.requires_grad_(False)


def maskable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of the encoder by name, LayerNorms and a pooler apart; some entries are chosen."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith("bert.") and "LayerNorm" not in name and "pooler" not in name
    }


def budget(model: nn.Module, share: float) -> int:
    """How many entries a share of the maskable ones is, rounded down."""
    return int(share * sum(p.numel() for p in maskable(model).values()))


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@torch.no_grad()
def rewind(model: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Put all parameters back to where they were."""
    for name, parameter in model.named_parameters():
        parameter.copy_(start[name])


@torch.no_grad()
def most_changed(model: nn.Module, start: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """Masks of the ``k`` most changed entries over all maskable tensors together.

    Args:
        model: after the full training.
        start: :func:`snapshot` of before.
        k: how many; entries as much changed as the last of them are selected too.

    Returns:
        Bool, of each maskable tensor's shape.

    Raises:
        ValueError: where there are fewer entries than ``k``, or ``k`` is below 1.
    """
    changes = {name: (p - start[name]).abs() for name, p in maskable(model).items()}
    entries = sum(c.numel() for c in changes.values())
    if not 1 <= k <= entries:
        raise ValueError(f"model.sft_share: {k} of {entries} entries; between 1 and all of them")
    every = torch.cat([c.flatten() for c in changes.values()])
    threshold = every.topk(k, sorted=False).values.min()
    return {name: change >= threshold for name, change in changes.items()}


def mask_gradients(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Leave gradients where masks are true, before clipping and the optimiser's step.

    Tensors without a mask, such as those of a head, keep theirs.
    """
    for name, parameter in model.named_parameters():
        if name in masks and parameter.grad is not None:
            parameter.grad.masked_fill_(~masks[name], 0.0)


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse an optimiser that moves weights whose gradient is zero.

    Raises:
        ValueError: for one with weight decay.
    """
    for group in optimizer.param_groups:
        if group.get("weight_decay"):
            decay = group["weight_decay"]
            raise ValueError(f"optimizer.weight_decay: {decay} moves masked weights; give 0")


def pull(model: nn.Module, start: Mapping[str, Tensor], strength: float) -> Tensor:
    """``strength * sum |theta - theta_0| / N``, added to the loss once per optimiser step.

    The sum is over what trains, the head included; ``N`` counts all parameters (the authors' code).

    Args:
        model: with gradients.
        start: :func:`snapshot`.
        strength: lambda, 0.1 in the paper's runs.
    """
    moved = [(p - start[n]).abs().sum() for n, p in model.named_parameters() if p.requires_grad]
    return strength * torch.stack(moved).sum() / sum(p.numel() for p in model.parameters())


class Masks(nn.Module):
    """Masks of the entries that are trained, as part of a checkpoint; all false at first."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        for number, parameter in enumerate(maskable(net).values()):
            self.register_buffer(str(number), torch.zeros(parameter.shape, dtype=torch.bool))

    def by_name(self, net: nn.Module) -> dict[str, Tensor]:
        """Of each maskable tensor of a network of the same kind."""
        return dict(zip(maskable(net), self.buffers(), strict=True))

    def set(self, masks: Mapping[str, Tensor]) -> None:
        """Take masks, in the order of the maskable tensors."""
        for buffer, mask in zip(self.buffers(), masks.values(), strict=True):
            buffer.copy_(mask)

    def selected(self) -> int:
        """Number of entries whose mask is true."""
        return sum(int(mask.sum()) for mask in self.buffers())
