"""The hypergrid: cells of {0, ..., H-1}^D, actions that add 1 to a coordinate, and a stop.

A cell is one number, ``sum_i s_i H^(D-1-i)``, so that a batch of states is a vector of integers and
an action adds a stride. Everything that depends on a cell alone is a table over all cells.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

MAX_CELLS = 4_194_304
MASKED = -1e9
"""Logit of an action that does not exist: finite, so that no gradient is infinity times zero."""


class HyperGrid(nn.Module):
    """The environment; a module only so that its tables move with the model.

    Rewards are ``R0 + R1 [all a_i > 1/4] + R2 [all 3/10 < a_i < 2/5]`` with
    ``a_i = |s_i / (H - 1) - 1/2|``. The comparisons are made in integers: cells lie on the
    boundaries where H - 1 is divisible by 4, 5 or 10, and floating point puts some of them on the
    wrong side.

    Args:
        n_dims: D.
        height: H.
        r0: reward of every cell.
        r1: added in the corners.
        r2: added in the modes.

    Attributes:
        coordinates: ``(S, D)``.
        log_reward: ``(S,)``, float32.
        forward_mask: ``(S, D + 1)``, 0 or :data:`MASKED`; the last column is the stop.
        backward_mask: ``(S, D)``, the same of the parents; s_0 has none.
        moves: ``(D + 1,)``, what an action adds to a cell's number.
    """

    coordinates: Tensor
    log_reward: Tensor
    forward_mask: Tensor
    backward_mask: Tensor
    moves: Tensor

    def __init__(
        self, n_dims: int, height: int, r0: float = 1e-3, r1: float = 0.5, r2: float = 2.0
    ) -> None:
        super().__init__()
        if n_dims < 1 or height < 2 or height**n_dims > MAX_CELLS:
            raise ValueError(
                f"hypergrid: n_dims {n_dims}, height {height}; a grid has n_dims >= 1,"
                f" height >= 2 and at most {MAX_CELLS} cells"
            )
        for name, value, least in (("r0", r0, "positive"), ("r1", r1, ""), ("r2", r2, "")):
            if not math.isfinite(value) or value < 0 or (least and value == 0):
                raise ValueError(
                    f"hypergrid: {name} is {value}; it has to be {least or 'at least 0'}"
                )
        self.n_dims, self.height = n_dims, height
        self.r0, self.r1, self.r2 = r0, r1, r2
        self.size = height**n_dims
        strides = [height ** (n_dims - 1 - i) for i in range(n_dims)]
        cells = torch.arange(self.size)
        coordinates = cells.unsqueeze(1) // torch.tensor(strides) % height
        blocked = torch.cat([coordinates == height - 1, torch.zeros(self.size, 1)], 1).bool()
        self._keep("coordinates", coordinates)
        self._keep("log_reward", self.rewards(coordinates).log().float())
        self._keep("forward_mask", torch.where(blocked, MASKED, 0.0))
        self._keep("backward_mask", torch.where(coordinates == 0, MASKED, 0.0))
        self._keep("moves", torch.tensor([*strides, 0]))

    def _keep(self, name: str, table: Tensor) -> None:
        self.register_buffer(name, table, persistent=False)

    @property
    def max_steps(self) -> int:
        """Transitions of the longest trajectory, the stop with them."""
        return self.n_dims * (self.height - 1) + 1

    @property
    def n_actions(self) -> int:
        """Coordinates and the stop."""
        return self.n_dims + 1

    def rewards(self, coordinates: Tensor) -> Tensor:
        """``R`` of ``(..., D)`` coordinates, float64."""
        side = self.height - 1
        # |s / side - 1/2| = distance / (2 side)
        distance = (2 * coordinates - side).abs()
        outer = (2 * distance > side).all(-1)
        mode = ((5 * distance > 3 * side) & (5 * distance < 4 * side)).all(-1)
        return self.r0 + self.r1 * outer.double() + self.r2 * mode.double()

    def target(self) -> Tensor:
        """``R / Z`` of every cell, ``(S,)``, float64."""
        reward = self.rewards(self.coordinates)
        return reward / reward.sum()

    def log_z(self) -> float:
        """Log of the sum of all rewards."""
        return math.log(float(self.rewards(self.coordinates).sum()))

    def mode_cells(self) -> Tensor:
        """Numbers of the cells with all three parts of the reward, ``(M,)``."""
        side = self.height - 1
        distance = (2 * self.coordinates - side).abs()
        inside = ((5 * distance > 3 * side) & (5 * distance < 4 * side)).all(-1)
        return inside.nonzero().squeeze(1)

    def corner(self, cells: Tensor) -> Tensor:
        """The corner, 0 to 2^D - 1, of each cell: bit ``i`` is set in the upper half of ``i``."""
        upper = 2 * self.coordinates[cells] > self.height - 1
        bits = 2 ** torch.arange(self.n_dims, device=cells.device)
        return (upper * bits).sum(-1)

    def terminating_distribution(self, probabilities: Tensor) -> Tensor:
        """Distribution of the object that a policy ends with, in order of the coordinates' sum.

        ``u(s_0) = 1``, ``u(s') = sum over parents of u(s) P_F(s'|s)``, ``p(x) = u(x) P_F(stop|x)``.

        Args:
            probabilities: ``(S, D + 1)``, P_F of every cell.

        Returns:
            ``(S,)``, float64.
        """
        p = probabilities.double()
        visits = torch.zeros(self.size, dtype=torch.float64, device=p.device)
        visits[0] = 1
        for level in self._levels()[:-1]:
            flow = visits[level].unsqueeze(1) * p[level, :-1]
            room = self.coordinates[level] < self.height - 1
            for i in range(self.n_dims):
                # Distinct cells have distinct neighbours in one direction: no two add to one cell.
                at = level[room[:, i]] + self.moves[i]
                visits[at] += flow[room[:, i], i]
        return visits * p[:, -1]

    def _levels(self) -> list[Tensor]:
        """Cells by the sum of their coordinates."""
        if not hasattr(self, "_by_sum"):
            total = self.coordinates.sum(1)
            order = total.argsort(stable=True)
            self._by_sum = order.split(cast("list[int]", total.bincount().tolist()))
        return list(self._by_sum)


def l1(p: Tensor, target: Tensor) -> float:
    """Sum over cells of the absolute difference; the mean is this over the number of cells."""
    return float((p - target).abs().sum())


def noise_floor(target: Tensor, n: int) -> float:
    """Expected summed L1 of a histogram of ``n`` samples of the target itself, about."""
    return math.sqrt(2 / (math.pi * n)) * float((target * (1 - target)).sqrt().sum())
