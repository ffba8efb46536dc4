"""Networks of the grid: a table, or an MLP whose backward pass reuses what sampling computed.

All give ``(N, 2 D + 2)`` outputs per cell: ``D + 1`` forward logits, ``D`` backward logits and one
log flow, from one trunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Table(nn.Module):
    """One free parameter per cell and output, 0 at first.

    Args:
        n_cells: number of cells.
        n_outputs: per cell.
    """

    def __init__(self, n_cells: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_cells, n_outputs))

    def hidden(self, coordinates: Tensor) -> list[Tensor]:
        """Nothing: a table has no hidden layers."""
        return []

    def outputs(self, cells: Tensor, coordinates: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """Outputs with gradients, ``(N, n_outputs)``."""
        return self.weight[cells]


class MLP(nn.Module):
    """A perceptron on concatenated one-hot coordinates.

    The first layer of a one-hot input is a sum of D rows of its weight, and is computed so; weights
    are kept as ``(inputs, outputs)``, which is what a product with few rows is fastest with. The
    activations of a forward pass without gradients can be given to :meth:`outputs`, which then
    costs the last layer and, in its backward pass, what any network costs.

    Args:
        n_dims: D.
        height: H.
        widths: of the hidden layers, at least one.
        n_outputs: per cell.
        slope: of the leaky ReLU; 0 is a ReLU.
    """

    def __init__(
        self, n_dims: int, height: int, widths: Sequence[int], n_outputs: int, slope: float = 0.01
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths: {list(widths)} has to be one or more positive numbers")
        self.height, self.slope = height, slope
        sizes = [n_dims * height, *widths, n_outputs]
        self.weights = nn.ParameterList(_uniform(a, (a, b)) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(_uniform(a, (b,)) for a, b in pairwise(sizes))
        self.register_buffer("offsets", height * torch.arange(n_dims), persistent=False)
        self.offsets: Tensor

    def rows(self, coordinates: Tensor) -> Tensor:
        """Rows of the first weight that are summed, ``(N, D)``."""
        return coordinates + self.offsets

    @torch.no_grad()
    def hidden(self, coordinates: Tensor) -> list[Tensor]:
        """Activations of the hidden layers, each ``(N, width)``, without gradients."""
        # Taken out of torch's lists once: they look each item up by a name that they make.
        weights, biases = list(self.weights), list(self.biases)
        first = F.embedding_bag(self.rows(coordinates), weights[0], mode="sum")
        found = [F.leaky_relu_(first.add_(biases[0]), self.slope)]
        for weight, bias in zip(weights[1:-1], biases[1:-1], strict=True):
            found.append(F.leaky_relu_(torch.addmm(bias, found[-1], weight), self.slope))
        return found

    def outputs(self, cells: Tensor, coordinates: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """Outputs with gradients, ``(N, n_outputs)``.

        Args:
            cells: ``(N,)``, not used.
            coordinates: ``(N, D)``.
            hidden: what :meth:`hidden` gave for these coordinates and weights.
        """
        options = self.rows(coordinates), list(hidden), self.slope
        return cast("Tensor", _Recorded.apply(options, *self.weights, *self.biases))


def _uniform(n_in: int, shape: tuple[int, ...]) -> nn.Parameter:
    """As torch initialises a linear layer with so many inputs."""
    bound = 1 / math.sqrt(n_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class _Recorded(Function):
    """The last layer on recorded activations; backward through all layers."""

    @staticmethod
    def forward(ctx: Any, options: Any, *parts: Tensor) -> Tensor:
        rows, hidden, slope = options
        weights = parts[: len(parts) // 2]
        ctx.save_for_backward(rows, *hidden, *weights)
        ctx.slope = slope
        return torch.addmm(parts[-1], hidden[-1], weights[-1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return _backward(ctx, *grad_outputs)


@once_differentiable
def _backward(ctx: Any, grad: Tensor) -> Any:
    rows, *saved = cast("list[Tensor]", ctx.saved_tensors)
    n = len(saved) // 2
    hidden, first, layers = saved[:n], saved[n], saved[n + 1 :]
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for h, weight in zip(reversed(hidden), reversed(layers), strict=True):
        weights.append(h.T @ grad)
        biases.append(grad.sum(0))
        grad = torch.ops.aten.leaky_relu_backward(grad @ weight.T, h, ctx.slope, True)
    to_first = torch.zeros_like(first)
    for i in range(rows.shape[1]):
        to_first.index_add_(0, rows[:, i], grad)
    weights.append(to_first)
    biases.append(grad.sum(0))
    return None, *reversed(weights), *reversed(biases)
