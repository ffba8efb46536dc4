"""Two losses of a point in the plane, whose best trade-offs are known.

Liu et al.: Conflict-Averse Gradient Descent (NeurIPS 2021), Appendix; the first loss scaled by 0.1
as by Navon et al.: Multi-Task Learning as a Bargaining Game (ICML 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

SCALES = (0.1, 1.0)
"""Of the two losses."""

LOWEST, SHIFT = -20.0, 0.01
"""Below any value of a loss before it is scaled; what a shifted loss is above 0 at least."""

_FLOOR = 5e-6


def objectives(x: Tensor) -> Tensor:
    """Both losses ``(..., 2)`` of points ``(..., 2)``.

    Where the second coordinate is positive they are logarithmic valleys, elsewhere bowls.
    """
    a, b = x.unbind(-1)
    valleys = torch.stack(
        [
            (0.5 * (-a - 7) - (-b).tanh()).abs().clamp(min=_FLOOR).log() + 6,
            (0.5 * (-a + 3) + (-b).tanh() + 2).abs().clamp(min=_FLOOR).log() + 6,
        ],
        -1,
    )
    bowls = torch.stack([_bowl(a, b, 7.0), _bowl(a, b, -7.0)], -1)
    # At 0 both have half of their slope, by maximum; with clamp a point that starts there stays.
    zero = torch.zeros_like(b)
    upper, lower = (torch.maximum((s * b / 2).tanh(), zero).unsqueeze(-1) for s in (1, -1))
    return (valleys * upper + bowls * lower) * x.new_tensor(SCALES)


def _bowl(a: Tensor, b: Tensor, centre: float) -> Tensor:
    return ((a - centre) ** 2 + 0.1 * (b + 8) ** 2) / 10 - 20


def shifted(losses: Tensor) -> Tensor:
    """The same ``(..., 2)`` above 0, as logarithms of losses and their ratios need."""
    scales = losses.new_tensor(SCALES)
    return losses - LOWEST * scales + SHIFT


def front(n: int = 401) -> Tensor:
    """Points ``(n, 2)`` of which none is better in both losses, in float64.

    They lie in the bowls. At a first coordinate a between the centres the two gradients across
    balance for one ratio of weights whatever the second coordinate, which is then the best one of a
    fine grid.
    """
    a = torch.linspace(-7, 7, n, dtype=torch.float64)
    b = torch.linspace(-9, -7, 4001, dtype=torch.float64)
    weight = (a + 7) / ((a + 7) + SCALES[0] * (7 - a))  # of the first loss
    grid = torch.stack(torch.broadcast_tensors(a[:, None], b[None, :]), -1)
    losses = objectives(grid)
    total = weight[:, None] * losses[..., 0] + (1 - weight[:, None]) * losses[..., 1]
    return torch.stack([a, b[total.argmin(1)]], 1)


def distance_to_front(x: Tensor, best: Tensor) -> Tensor:
    """By how much both losses could fall at once, at most, in units of their scales.

    0 on the front; below it nothing lies, but for the grid.

    Args:
        x: points ``(..., 2)``.
        best: points of the front ``(n, 2)``, as :func:`front` gives them.
    """
    fall = objectives(x).unsqueeze(-2) - objectives(best)
    return (fall / fall.new_tensor(SCALES)).amin(-1).amax(-1)


class Point(nn.Module):
    """A point as a network of two tasks: its outputs are the losses, whatever its inputs.

    Args:
        tasks: names of the two, as a network of several tasks is given them.
        start: where the point begins.

    Raises:
        ValueError: unless there are two tasks and two coordinates.
    """

    def __init__(self, *, tasks: Mapping[str, int], start: Sequence[float] = (0.0, 0.0)) -> None:
        super().__init__()
        if len(tasks) != 2 or len(start) != 2:
            raise ValueError(
                f"{len(tasks)} tasks, a start of {len(start)} coordinates: has two of each"
            )
        self.tasks = tuple(tasks)
        self.x = nn.Parameter(torch.tensor(start, dtype=torch.float32))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The losses ``(B,)`` by task, the same for every item."""
        losses = objectives(self.x)
        return {task: losses[i].expand(len(x)) for i, task in enumerate(self.tasks)}

    def shared_parameters(self) -> list[nn.Parameter]:
        """The point."""
        return [self.x]

    def task_parameters(self) -> dict[str, list[nn.Parameter]]:
        """None."""
        return {task: [] for task in self.tasks}
