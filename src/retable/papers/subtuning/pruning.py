"""Pruning of channels by magnitude before tuning, of a ResNet's last stage (v1 of the paper).

L1, local, by 50 %, in one step, as the authors' script has it: within each group of channels those
with the smallest sums of absolute weights go (Li et al., Pruning Filters for Efficient ConvNets,
ICLR 2017). A group is what one convolution inside a block writes, or the channels that all blocks
of the stage add to. Of the latter the score is the sum over all convolutions that write them; the
library that the authors use scores groups by a formula of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from retable.nets.resnet import PaddedShortcut
from retable.papers.subtuning.networks import Blocks, Name, stages
from retable.util.errors import UserError


class Select(nn.Module):
    """Some channels of ``(B, C, H, W)``: ``(B, len(kept), H, W)``."""

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept)

    def forward(self, x: Tensor) -> Tensor:
        """The channels."""
        return x[:, self.kept]


def kept_channels(scores: Tensor, share: float) -> Tensor:
    """Indices, ascending, of the channels that stay: ``⌊share C⌋`` of the lowest scores go.

    Args:
        scores: ``(C,)``; of equal ones the lowest index goes first.
        share: in [0, 1).
    """
    return scores.argsort(stable=True)[int(share * len(scores)) :].sort().values


def prune(net: Blocks, name: Name, share: float = 0.5) -> None:
    """Remove channels of the last stage, in place; what stays keeps its weights.

    Shapes: inside a block every convolution but the last writes ``C - ⌊share C⌋`` channels; so
    do the blocks themselves, so that the features are ``d - ⌊share d⌋`` and the head loses
    columns. What the stage is given keeps its shape. The parameters are new ones.

    Args:
        net: a ResNet.
        name: its name.
        share: of the channels, in [0, 1).

    Raises:
        UserError: for a ViT, or a share outside of [0, 1).
    """
    if name.startswith("vit"):
        raise UserError(f"model.pruned: channels of ResNets can be pruned, not those of '{name}'")
    if not 0 <= share < 1:
        raise UserError(f"model.pruned: {share}; at least 0 and below 1")
    blocks = [net.blocks[i] for i in stages(name)[-1]]
    paths = [_path(block) for block in blocks]
    projection = blocks[0].downsample
    writers = [path[-1][0] for path in paths]
    if isinstance(projection, nn.Sequential):
        writers.append(cast("nn.Conv2d", projection[0]))
    # Scores first: they are those of the weights before anything is removed.
    stream = kept_channels(torch.stack([_norms(conv) for conv in writers]).sum(0), share)
    inner = [[kept_channels(_norms(conv), share) for conv, _ in path[:-1]] for path in paths]
    for i, (path, own) in enumerate(zip(paths, inner, strict=True)):
        given = stream if i else None
        for (conv, norm), written in zip(path, [*own, stream], strict=True):
            _cut(conv, written, given)
            _cut_norm(norm, written)
            given = written
    if isinstance(projection, nn.Sequential):
        _cut(cast("nn.Conv2d", projection[0]), stream, None)
        _cut_norm(cast("nn.BatchNorm2d", projection[1]), stream)
    elif isinstance(projection, PaddedShortcut):
        blocks[0].downsample = nn.Sequential(projection, Select(stream))
    _set(net.fc, "weight", net.fc.weight[:, stream])
    net.fc.in_features = len(stream)


def _path(block: nn.Module) -> Sequence[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions of a residual block in their order, each with its norm; no shortcut."""
    names = [str(i) for i in (1, 2, 3) if hasattr(block, f"conv{i}")]
    return [(getattr(block, f"conv{i}"), getattr(block, f"bn{i}")) for i in names]


def _norms(conv: nn.Conv2d) -> Tensor:
    """L1 norms of the filters, ``(out_channels,)``."""
    return conv.weight.detach().abs().sum((1, 2, 3))


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    old = cast("nn.Parameter", getattr(module, name))
    setattr(module, name, nn.Parameter(value.detach().clone(), old.requires_grad))


def _cut(conv: nn.Conv2d, written: Tensor, given: Tensor | None) -> None:
    """Leave these outputs and inputs (``None``: all)."""
    weight = conv.weight[written]
    _set(conv, "weight", weight if given is None else weight[:, given])
    conv.out_channels, conv.in_channels = conv.weight.shape[:2]


def _cut_norm(norm: nn.BatchNorm2d, kept: Tensor) -> None:
    _set(norm, "weight", norm.weight[kept])
    _set(norm, "bias", norm.bias[kept])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean, norm.running_var = norm.running_mean[kept], norm.running_var[kept]
    norm.num_features = len(kept)
