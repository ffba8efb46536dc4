"""SegNet that is shared by several dense predictions of a scene.

Badrinarayanan, Kendall, Cipolla: SegNet (TPAMI 2017): an encoder like that of VGG-16 and its
mirror image, which puts values back to where max-pooling took them from. With a head per task it
is the "split" network of Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention (CVPR
2019); as in their code there are two convolutions at the first two levels and three at the others.

``(B, in_channels, H, W)``, both divisible by 32 with five levels, becomes per task a map of the
same size: log-probabilities ``(B, n_classes, H, W)`` of ``segmentation``, ``(B, 1, H, W)`` of
``depth``, unit vectors ``(B, 3, H, W)`` of ``normals``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from retable.nets.init import Init, initialise

Task = Literal["segmentation", "depth", "normals"]
TASKS: tuple[Task, ...] = ("segmentation", "depth", "normals")
FILTERS = (64, 128, 256, 512, 512)
Pair = tuple[torch.Tensor, torch.Tensor]


def conv_block(in_channels: int, channels: int) -> nn.Sequential:
    """A 3 x 3 convolution with norm and ReLU."""
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


def unpool(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """``x`` ``(B, C, H, W)`` put back to the ``places`` of 2 x 2 pooling, in ``(B, C, 2H, 2W)``.

    As torch's ``max_unpool2d``, which is refused where algorithms have to be deterministic.
    """
    height, width = x.shape[2:]
    larger = x.new_zeros(*x.shape[:2], 4 * height * width)
    return larger.scatter(2, places.flatten(2), x.flatten(2)).unflatten(2, (2 * height, 2 * width))


class Level(nn.Module):
    """The convolutions of an encoder or decoder at one resolution, with what is between them.

    ``(B, in_channels, H, W)`` becomes ``(B, channels, H, W)``, twice.
    """

    def __init__(self, in_channels: int, channels: int, n: int) -> None:
        super().__init__()
        self.first = conv_block(in_channels, channels)
        self.rest = nn.Sequential(*(conv_block(channels, channels) for _ in range(n - 1)))

    def forward(self, x: torch.Tensor) -> Pair:
        """The outputs of the first and of the last convolution."""
        first = self.first(x)
        return first, self.rest(first)


class Predictions(nn.Module):
    """A head per task: a 3 x 3 convolution, then a 1 x 1 convolution, nothing between them.

    Args:
        tasks: in the order of the outputs.
        channels: of the input.
        n_classes: of the segmentation.
    """

    def __init__(self, tasks: Sequence[Task], channels: int, n_classes: int) -> None:
        super().__init__()
        outputs: dict[str, int] = {"segmentation": n_classes, "depth": 1, "normals": 3}
        self.heads = nn.ModuleDict()
        for task in tasks:
            last = nn.Conv2d(channels, outputs[task], 1)
            self.heads[task] = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), last)

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each task's map from its features ``(B, channels, H, W)``."""
        maps = {task: head(features[task]) for task, head in self.heads.items()}
        if "segmentation" in maps:
            maps["segmentation"] = F.log_softmax(maps["segmentation"], 1)
        if "normals" in maps:
            maps["normals"] = F.normalize(maps["normals"], dim=1)
        return maps


class SegNet(nn.Module):
    """The shared encoder and decoder, and a head per task.

    Single-task learning has one task. ``pred`` is the part that belongs to tasks; all other
    parameters are shared.

    Args:
        tasks: in the order of the outputs.
        n_classes: of the segmentation.
        in_channels: of an image.
        filters: channels per level, from the image down.
        init: of convolutions. By default Glorot's normal one, biases zero, as in the code of Liu et
            al.
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
        super().__init__()
        self.tasks = tuple(tasks)
        sizes = [2 if level < 2 else 3 for level in range(len(filters))]
        above = [in_channels, *filters[:-1]]
        below = [filters[0], *filters[:-1]]
        self.encoder = nn.ModuleList(map(Level, above, filters, sizes))
        self.decoder = nn.ModuleList(map(Level, filters, below, sizes))
        self.pred = Predictions(self.tasks, filters[0], n_classes)
        initialise(self, init)

    def levels(self, x: torch.Tensor) -> tuple[list[Pair], list[Pair]]:
        """What attention sees: per encoder and per decoder level, from the image down.

        The encoder's are the outputs of a level's first and last convolution, the decoder's are
        what unpooling gives to a level and the output of its last convolution.
        """
        down: list[Pair] = []
        up: list[Pair] = []
        places: list[torch.Tensor] = []
        for level in self.encoder:
            down.append(level(x))
            x, where = F.max_pool2d(down[-1][1], 2, return_indices=True)
            places.append(where)
        for level in reversed(self.decoder):
            unpooled = unpool(x, places.pop())
            x = level(unpooled)[1]
            up.insert(0, (unpooled, x))
        return down, up

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each task's map."""
        features = self.levels(x)[1][0][1]
        return self.pred(dict.fromkeys(self.tasks, features))
