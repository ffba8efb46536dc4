"""Weights in the middle of a training, from which other runs start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from retable.papers.base import Arrays, Start
from retable.util.errors import UserError


class Snapshots:
    """Copies of the weights after some epochs; checkpoints have them, and a child reads them.

    Args:
        epochs: finished epochs after which a copy is kept.

    Raises:
        ValueError: for an epoch before the first or given twice.
    """

    def __init__(self, epochs: Sequence[int]) -> None:
        if len(set(epochs)) < len(epochs) or any(epoch < 1 for epoch in epochs):
            raise ValueError(f"model.snapshots: epochs from 1 on, each once, not {list(epochs)}")
        self.epochs = frozenset(epochs)
        self._kept: dict[int, Arrays] = {}

    def take(self, epoch: int, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy, if this is one of the epochs: so many are finished."""
        if epoch in self.epochs:
            self._kept[epoch] = {k: v.detach().cpu().clone() for k, v in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {str(epoch): weights for epoch, weights in self._kept.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what a checkpoint has."""
        self._kept = {int(epoch): dict(weights) for epoch, weights in state.items()}

    def artifacts(self) -> dict[str, Arrays]:
        """``snapshot_<epoch>``: the weights by name."""
        return {f"snapshot_{epoch}": weights for epoch, weights in self._kept.items()}


def snapshot(start: Start, epoch: int) -> Arrays:
    """Weights that the run one starts from has kept of an epoch.

    Raises:
        UserError: where it has kept none of that epoch; names those that it has.
    """
    name = f"snapshot_{epoch}"
    if name not in start.artifacts:
        found = sorted(int(k.split("_")[1]) for k in start.artifacts if k.startswith("snapshot_"))
        raise UserError(
            f"model.snapshot: the run that this one starts from has kept no epoch {epoch}; kept:"
            f" {found or 'none'} (its model.snapshots)"
        )
    return start.artifacts[name]
