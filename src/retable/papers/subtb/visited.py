"""A batch of trajectories on the hypergrid, state by state."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Visited:
    """The states that a batch of B trajectories acts in, ordered by time, flat.

    Attributes:
        cells: ``(N,)``; the first B are the start.
        owner: ``(N,)``, the trajectory.
        time: ``(N,)``.
        action: ``(N,)``, taken in the state.
        last: ``(N,)``, the action that led to it; D at the start.
        size: B.
        hidden: the network's activations there, without gradients; empty where not recorded.
    """

    cells: Tensor
    owner: Tensor
    time: Tensor
    action: Tensor
    last: Tensor
    size: int
    hidden: list[Tensor] = field(default_factory=list[Tensor])

    @property
    def lengths(self) -> Tensor:
        """Transitions of each trajectory, ``(B,)``."""
        return self.owner.bincount(minlength=self.size)

    def objects(self, stop: int) -> Tensor:
        """Cells that the trajectories end in, ``(B,)``."""
        ends = self.action == stop
        return self.cells.new_empty(self.size).scatter_(0, self.owner[ends], self.cells[ends])
