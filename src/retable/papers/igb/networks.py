"""Small networks of a shared trunk and a head for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


class MultiHead(nn.Module):
    """Base: the trunk's features go to the head of each task.

    The network of one task alone is that of the same options with one task.

    Args:
        trunk: ``(B, ...)`` to features ``(B, width)``.
        width: of the features.
        tasks: outputs by task: the number of classes, or 1 for regression.
        head_widths: hidden layers of every head, with ReLU.

    Raises:
        ValueError: where there is no task.
    """

    def __init__(
        self, trunk: nn.Module, width: int, tasks: Mapping[str, int], head_widths: Sequence[int]
    ) -> None:
        super().__init__()
        if not tasks:
            raise ValueError("tasks: a network needs one at least")
        self.trunk = trunk
        ends = [width, *head_widths][-1]
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(*hidden(width, head_widths), nn.Linear(ends, outputs))
                for task, outputs in tasks.items()
            }
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits ``(B, classes)`` or numbers ``(B,)`` of each task."""
        features = self.trunk(x)
        outputs = {task: head(features) for task, head in self.heads.items()}
        return {task: y.squeeze(1) if y.shape[1] == 1 else y for task, y in outputs.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters of the trunk."""
        return list(self.trunk.parameters())

    def task_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the heads, by task."""
        return {task: list(head.parameters()) for task, head in self.heads.items()}


class Mlp(MultiHead):
    """Dense layers with ReLU for rows of numbers ``(B, n_features)``.

    Args:
        n_features: of an item.
        tasks: outputs by task, 1 for regression.
        widths: of the trunk's layers; GradNorm's four of 100 by default.
        head_widths: hidden layers of every head; none, so that heads are linear.
    """

    def __init__(
        self,
        *,
        n_features: Annotated[int, Field(ge=1)],
        tasks: dict[str, Annotated[int, Field(ge=1)]],
        widths: Sequence[Annotated[int, Field(ge=1)]] = (100, 100, 100, 100),
        head_widths: Sequence[Annotated[int, Field(ge=1)]] = (),
    ) -> None:
        trunk = nn.Sequential(*hidden(n_features, widths))
        super().__init__(trunk, [n_features, *widths][-1], tasks, head_widths)


class LeNet(MultiHead):
    """Two convolutions, each with max-pooling and ReLU, and a dense layer, for images.

    Sener, Koltun (NeurIPS 2018) have it for Multi-MNIST: 5 x 5 without padding, heads with a
    hidden layer of 50. Images of 12 x 12 pixels need ``kernel: 3`` and ``padding: 1``.

    Args:
        tasks: outputs by task, 1 for regression.
        size: pixels of an image ``(B, in_channels, size, size)``.
        in_channels: of an image.
        channels: of the two convolutions.
        kernel: their size.
        padding: zeros around what they are given.
        hidden_width: of the dense layer.
        head_widths: hidden layers of every head.

    Raises:
        ValueError: where nothing is left of an image.
    """

    def __init__(
        self,
        *,
        tasks: dict[str, Annotated[int, Field(ge=1)]],
        size: Annotated[int, Field(ge=4)] = 36,
        in_channels: Annotated[int, Field(ge=1)] = 1,
        channels: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (10, 20),
        kernel: Annotated[int, Field(ge=1)] = 5,
        padding: Annotated[int, Field(ge=0)] = 0,
        hidden_width: Annotated[int, Field(ge=1)] = 50,
        head_widths: Sequence[Annotated[int, Field(ge=1)]] = (50,),
    ) -> None:
        layers, before, left = list[nn.Module](), in_channels, size
        for after in channels:
            layers += [
                nn.Conv2d(before, after, kernel, padding=padding),
                nn.MaxPool2d(2),
                nn.ReLU(),
            ]
            before, left = after, (left + 2 * padding - kernel + 1) // 2
        if left < 1:
            raise ValueError(
                f"kernel: {kernel} x {kernel} with padding {padding} leaves nothing of {size} x"
                f" {size} pixels; take kernel 3 and padding 1"
            )
        pixels = before * left**2
        trunk = nn.Sequential(*layers, nn.Flatten(), *hidden(pixels, [hidden_width]))
        super().__init__(trunk, hidden_width, tasks, head_widths)


def hidden(n: int, widths: Sequence[int]) -> list[nn.Module]:
    """Dense layers with ReLU, the first of ``n`` inputs."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(n, width), nn.ReLU()]
        n = width
    return layers
