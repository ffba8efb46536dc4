"""Weights in the middle of a training, from which other runs start."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from retable.papers.base import Start
from retable.util.errors import UserError

_PREFIX = "snapshots.kept."


class Snapshots(nn.Module):
    """Copies of a network after some epochs.

    They are part of the module's state, as its attribute ``snapshots``: a checkpoint has them, and
    so has what a child starts with. Before their epoch they are the network at its beginning.

    Args:
        net: network that is trained.
        epochs: finished epochs after which a copy is kept.

    Raises:
        ValueError: for an epoch before the first or given twice.
    """

    def __init__(self, net: nn.Module, epochs: Sequence[int]) -> None:
        super().__init__()
        if len(set(epochs)) < len(epochs) or any(epoch < 1 for epoch in epochs):
            raise ValueError(f"model.snapshots: epochs from 1 on, each once, not {list(epochs)}")
        self.kept = nn.ModuleDict(
            {str(epoch): copy.deepcopy(net).requires_grad_(False) for epoch in epochs}
        )

    def take(self, epoch: int, net: nn.Module) -> None:
        """Keep a copy, if this is one of the epochs: so many are finished."""
        if str(epoch) in self.kept:
            self.kept[str(epoch)].load_state_dict(net.state_dict())


def snapshot(start: Start, epoch: int) -> dict[str, Tensor]:
    """State of the network that the run one starts from has kept of an epoch.

    Raises:
        UserError: where it has kept none of that epoch; names those that it has.
    """
    before = f"{_PREFIX}{epoch}."
    found = {k.removeprefix(before): w for k, w in start.weights.items() if k.startswith(before)}
    if not found:
        kept = [k.removeprefix(_PREFIX) for k in start.weights if k.startswith(_PREFIX)]
        epochs = sorted({int(name.partition(".")[0]) for name in kept})
        raise UserError(
            f"model.snapshot: the run that this one starts from keeps no epoch {epoch}; kept:"
            f" {epochs or 'none'} (its model.snapshots)"
        )
    return found
