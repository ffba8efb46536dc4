"""Stages of blocks, as residual networks have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks per stage, of 18 and 34 layers (He et al., CVPR 2016, Table 1)."""


def thirds(depth: int, others: int) -> tuple[int, int, int]:
    """Blocks of two layers in each of three stages, beside ``others`` layers.

    Raises:
        ValueError: where the depth is not 6n + ``others``, n >= 1.
    """
    n, rest = divmod(depth - others, 6)
    if rest or n < 1:
        raise ValueError(f"depth is 6n + {others} with n >= 1, not {depth}")
    return n, n, n


def stages(
    blocks: Sequence[int],
    channels: int,
    width: int,
    make: Callable[[int, int, int, bool], nn.Module],
) -> list[nn.Sequential]:
    """Stages, of which each but the first doubles the channels and halves the image.

    Args:
        blocks: per stage.
        channels: before the first one.
        width: channels of the first one.
        make: a block, of its input's and its output's channels, its stride, and whether it is the
            first of its stage.
    """
    found: list[nn.Sequential] = []
    for i, n in enumerate(blocks):
        out, stage = width * 2**i, list[nn.Module]()
        for j in range(n):
            stage.append(make(channels, out, 2 if i and not j else 1, not j))
            channels = out
        found.append(nn.Sequential(*stage))
    return found
