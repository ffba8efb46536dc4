"""ResNets with 18 or 34 layers whose stem halves small images: a quarter of the operations."""

from __future__ import annotations

from typing import Literal

from torch import nn

from retable.nets.init import Init, initialise
from retable.nets.resnet import ResNet


class StridedResNet(ResNet):
    """:class:`~retable.nets.resnet.ResNet` with a stride of 2 in its first convolution.

    Its stages have 16, 8, 4 and 2 pixels a side for images of 32. Modules have the same names, and
    the same numbers of weights.

    Args:
        depth: layers with weights.
        n_classes: outputs.
        in_channels: of an image.
        width: channels of the first stage.
        init: of convolutions.
        stem_init: of the first convolution, where it is another one.
    """

    def __init__(
        self,
        depth: Literal[18, 34],
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        init: Init = "he_normal_out",
        stem_init: Init | None = None,
    ) -> None:
        super().__init__(
            depth,
            n_classes=n_classes,
            in_channels=in_channels,
            width=width,
            init=init,
            stem_init=stem_init,
        )
        self.conv1 = nn.Conv2d(in_channels, width, 3, 2, padding=1, bias=False)
        initialise(self.conv1, stem_init or init)
