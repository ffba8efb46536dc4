"""Residual networks of torchvision for 224 x 224 images, with `features` and ``fc`` apart."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torchvision.models
from pydantic import Field
from torch import Tensor, nn

from retable.nets.init import Init, initialise


class TorchvisionNet(nn.Module):
    """A network of torchvision, not trained, in two parts: `features` ``(B, d)`` and ``fc``.

    ``(B, 3, H, W)`` becomes ``(B, n_classes)``. Weights start as in torchvision.

    Args:
        name: d is 512 for the first two, 2048 for ResNeXt-50.
        n_classes: C.
        stem_init: of the first convolution, where it is another one; ``torch`` is what code does
            that puts a new convolution in its place.
    """

    def __init__(
        self,
        name: Literal["resnet18", "resnet34", "resnext50_32x4d"],
        *,
        n_classes: Annotated[int, Field(ge=2)],
        stem_init: Init | None = None,
    ) -> None:
        super().__init__()
        net: Any = getattr(torchvision.models, name)(num_classes=n_classes)
        if stem_init is not None:
            initialise(net.conv1, stem_init)
        self.fc: nn.Linear = net.fc
        net.fc = nn.Identity()
        self.extractor: nn.Module = net

    def features(self, x: Tensor) -> Tensor:
        """What the dense layer is given: the mean over the image, at least 0."""
        return self.extractor(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.features(x))
