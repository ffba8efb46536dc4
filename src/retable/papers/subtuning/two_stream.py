"""Inference of two tasks at once: what both networks share is run once (Section 2 and Figure 7).

With the tuned blocks from s to e (of a set with gaps, the first and the last): blocks before s run
once; those from s to e of both networks run as one block of doubled channels, every convolution
with twice the groups; then the two halves become rows of a batch of twice the size, so that the
weights of the frozen blocks behind e are read once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.backends import mha
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, Bottleneck

from retable.nets.resnet import PaddedShortcut
from retable.papers.subtuning.networks import Blocks
from retable.util.errors import UserError


class DoubledShortcut(nn.Module):
    """A `PaddedShortcut` of each half of the channels by itself."""

    def __init__(self, one: PaddedShortcut) -> None:
        super().__init__()
        self.padding, self.stride = one.padding, one.stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 2 C, H, W)`` to ``(B, 2 channels, ⌈H / stride⌉, ⌈W / stride⌉)``."""
        halves = x[:, :, :: self.stride, :: self.stride].unflatten(1, (2, -1))
        return F.pad(halves, (0, 0, 0, 0, *self.padding)).flatten(1, 2)


def merged(old: nn.Module, new: nn.Module) -> nn.Module:
    """Two modules of one structure as one of both channels: the old one's first.

    Args:
        old: convolutions, batch norms, what has no parameters, and modules made of them.
        new: the same with other weights.

    Returns:
        ``(B, 2 C, H, W)`` to what both give, along the channels; twice the parameters of one.

    Raises:
        UserError: where a layer cannot be merged, or the two are of different shapes.
    """
    if isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d):
        return _merged_conv(old, new)
    if isinstance(old, nn.BatchNorm2d) and isinstance(new, nn.BatchNorm2d):
        return _merged_norm(old, new)
    if isinstance(old, PaddedShortcut):
        return DoubledShortcut(old)
    if type(old) is not type(new) or next(old.parameters(recurse=False), None) is not None:
        names = type(old).__name__, type(new).__name__
        raise UserError(f"two streams: no common layer of a {names[0]} and a {names[1]}")
    both = copy.deepcopy(old)
    for name, child in old.named_children():
        setattr(both, name, merged(child, new.get_submodule(name)))
    return both


def _stacked(old: Tensor, new: Tensor) -> Tensor:
    if old.shape != new.shape:
        raise UserError(
            f"two streams: tensors of {tuple(old.shape)} and {tuple(new.shape)} cannot be merged;"
            " a pruned network runs by itself"
        )
    return torch.cat([old.detach(), new.detach()])


def _merged_conv(old: nn.Conv2d, new: nn.Conv2d) -> nn.Conv2d:
    both = copy.deepcopy(old)
    both.in_channels, both.out_channels = 2 * old.in_channels, 2 * old.out_channels
    both.groups = 2 * old.groups
    both.weight = nn.Parameter(_stacked(old.weight, new.weight))
    if old.bias is not None and new.bias is not None:
        both.bias = nn.Parameter(_stacked(old.bias, new.bias))
    return both


def _merged_norm(old: nn.BatchNorm2d, new: nn.BatchNorm2d) -> nn.BatchNorm2d:
    both = copy.deepcopy(old)
    both.num_features = 2 * old.num_features
    both.weight = nn.Parameter(_stacked(old.weight, new.weight))
    both.bias = nn.Parameter(_stacked(old.bias, new.bias))
    both.running_mean = _stacked(cast("Tensor", old.running_mean), cast("Tensor", new.running_mean))
    both.running_var = _stacked(cast("Tensor", old.running_var), cast("Tensor", new.running_var))
    return both


class TwoStream(nn.Module):
    """A ResNet and its tuned copy as one network, for inference: in evaluation mode, no gradients.

    It has copies of the weights. Blocks between the first and the last tuned one that are not
    tuned are doubled with them.

    Args:
        old: with its own head.
        new: the same but for the tuned blocks, with a head of its own.
        tuned: indices of the blocks (from 0) in which the two differ; none: in the head alone.

    Raises:
        UserError: for a ViT, an index that is none, or networks that differ elsewhere.
    """

    def __init__(self, old: Blocks, new: Blocks, tuned: Sequence[int]) -> None:
        super().__init__()
        _check(old, new, tuned)
        first, last = (min(tuned), max(tuned) + 1) if tuned else (len(old), len(old))
        self.before = nn.Sequential(*copy.deepcopy([old.stem, *old.blocks[:first]]))
        self.both = nn.Sequential(
            *(merged(old.blocks[i], new.blocks[i]) for i in range(first, last))
        )
        self.after = nn.Sequential(*copy.deepcopy([*old.blocks[last:], old.tail]))
        self.fc_old, self.fc_new = copy.deepcopy(old.fc), copy.deepcopy(new.fc)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the old and of the new network for images ``(B, C, H, W)``."""
        h = self.before(x)
        if not len(self.both):
            features = self.after(h)
            return self.fc_old(features), self.fc_new(features)
        h = self.both(torch.cat([h, h], 1))
        # Rows 2 n and 2 n + 1 are the old and the new stream of image n.
        features = self.after(h.unflatten(1, (2, -1)).flatten(0, 1))
        return self.fc_old(features[0::2]), self.fc_new(features[1::2])


def _check(old: Blocks, new: Blocks, tuned: Sequence[int]) -> None:
    for block in old.blocks:
        if not isinstance(block, BasicBlock | Bottleneck):
            raise UserError(
                f"two streams: only blocks of ResNets can be merged, not the {type(block).__name__}"
                " of a ViT"
            )
    if len(old) != len(new):
        raise UserError(f"two streams: networks of {len(old)} and {len(new)} blocks")
    if wrong := [i for i in tuned if not 0 <= i < len(old)]:
        raise UserError(f"two streams: no block {wrong[0]}; they are 0 to {len(old) - 1}")
    own = ("fc.", *(f"blocks.{i}." for i in tuned))
    others = new.state_dict()
    for name, value in old.state_dict().items():
        if not name.startswith(own) and not name.endswith("num_batches_tracked"):
            other = others.get(name)
            if other is None or not torch.equal(value, other.to(value.device)):
                raise UserError(f"two streams: '{name}' differs, outside of the blocks {[*tuned]}")


def added_parameters(new: Blocks, tuned: Sequence[int]) -> int:
    """Numbers that a further task adds to memory: those of its tuned blocks and of its head."""
    parts: Iterator[nn.Module] = (new.blocks[i] for i in tuned)
    return sum(p.numel() for part in (*parts, new.fc) for p in part.parameters())


class Flops(NamedTuple):
    """Floating-point operations of a network by its parts, of products alone (two each)."""

    stem: int
    blocks: list[int]
    head: int

    @property
    def total(self) -> int:
        """Of all of them."""
        return self.stem + sum(self.blocks) + self.head

    def added(self, tuned: Sequence[int]) -> int:
        """What a further task adds: all blocks from its first tuned one on, and a head."""
        return sum(self.blocks[min(tuned, default=len(self.blocks)) :]) + self.head


def block_flops(net: Blocks, images: Tensor) -> Flops:
    """Operations for images ``(B, C, H, W)``; tail and norms, without products, count nothing."""
    h, counts = images, list[int]()
    was = net.training
    net.eval()
    for part in (net.stem, *net.blocks, nn.Sequential(net.tail, net.fc)):
        n, h = flops(part, h)
        counts.append(n)
    net.train(was)
    return Flops(counts[0], counts[1:-1], counts[-1])


@torch.no_grad()
def flops(module: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """Operations of a module, and what it gives."""
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)  # one kernel there, and here, of which no products are counted
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            given = module(x)
    finally:
        mha.set_fastpath_enabled(fast)
    return counter.get_total_flops(), given
