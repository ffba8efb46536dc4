"""MTAN: SegNet with an attention network per task.

Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention (CVPR 2019), Section 3 and
Figure 2. Inputs and outputs are those of `retable.nets.segnet`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.init import Init, initialise
from retable.nets.segnet import FILTERS, TASKS, Pair, SegNet, Task, conv_block


def mask(in_channels: int, channels: int) -> nn.Sequential:
    """Values in [0, 1]: two 1 x 1 convolutions with norm, ReLU between them, a sigmoid behind."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels),
        nn.Sigmoid(),
    )


class Attention(nn.Module):
    """A task's masks: one per encoder level and one per decoder level."""

    def __init__(self, filters: Sequence[int], below: Sequence[int]) -> None:
        super().__init__()
        seen = [n if level == 0 else 2 * n for level, n in enumerate(filters)]
        self.encoder = nn.ModuleList(map(mask, seen, filters))
        seen = [n + out for n, out in zip(filters, below, strict=True)]
        self.decoder = nn.ModuleList(map(mask, seen, below))

    def forward(
        self, down: list[Pair], up: list[Pair], inward: nn.ModuleList, outward: nn.ModuleList
    ) -> torch.Tensor:
        """The task's features ``(B, below[0], H, W)``.

        Args:
            down: of each encoder level, the outputs of its first and last convolution.
            up: of each decoder level, what unpooling gave to it and its output.
            inward: convolutions between masked encoder levels.
            outward: convolutions between masked decoder levels.
        """
        chosen = down[0][0][:, :0]  # nothing lies above the first level
        for (first, last), weigh, convolve in zip(down, self.encoder, inward, strict=True):
            weights = weigh(torch.cat((first, chosen), 1))
            chosen = F.max_pool2d(convolve(weights * last), 2)
        for i in reversed(range(len(up))):
            unpooled, last = up[i]
            larger = F.interpolate(chosen, scale_factor=2, mode="bilinear", align_corners=True)
            chosen = self.decoder[i](torch.cat((unpooled, outward[i](larger)), 1)) * last
        return chosen


class MTAN(SegNet):
    """Each task masks the shared features of every level, and goes on with what it has chosen.

    In the encoder a level's mask comes from its first convolution and the task's features of the
    level above; it selects from the last convolution, and a 3 x 3 convolution and max-pooling
    follow. In the decoder the task's features are enlarged (bilinearly) and convolved first; the
    mask comes from them and the unpooled shared ones. Masks belong to tasks, the convolutions
    between levels do not. In gradient balancing only ``pred`` counts as the tasks' own.

    Args:
        tasks: in the order of the outputs.
        n_classes: of the segmentation.
        in_channels: of an image.
        filters: channels per level, from the image down.
        init: of convolutions.
    """

    def __init__(
        self,
        tasks: Sequence[Task] = TASKS,
        *,
        n_classes: int = 13,
        in_channels: int = 3,
        filters: Sequence[int] = FILTERS,
        init: Init = "glorot_normal",
    ) -> None:
        super().__init__(
            tasks, n_classes=n_classes, in_channels=in_channels, filters=filters, init=init
        )
        below = [filters[0], *filters[:-1]]
        deeper = [*filters[1:], filters[-1]]
        self.attention = nn.ModuleDict({task: Attention(filters, below) for task in self.tasks})
        self.inward = nn.ModuleList(map(conv_block, filters, deeper))
        self.outward = nn.ModuleList(map(conv_block, filters, below))
        initialise(self, init)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each task's map."""
        down, up = self.levels(x)
        features = {
            task: attend(down, up, self.inward, self.outward)
            for task, attend in self.attention.items()
        }
        return self.pred(features)
