"""Weights in the middle of a training, from which other runs start."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from retable.papers.base import Start
from retable.util.errors import UserError

_PREFIX = "snapshots.kept."


class Snapshots(nn.Module):
    """Copies of a network after some shares of its training.

    They are part of the module's state, as its attribute ``snapshots``: a checkpoint has them, and
    so has what a child starts with. Before their time they are the network at its beginning.

    Args:
        net: network that is trained.
        percents: of the run's epochs, after which a copy is kept.

    Raises:
        ValueError: for a percentage that is none, or given twice.
    """

    def __init__(self, net: nn.Module, percents: Sequence[int]) -> None:
        super().__init__()
        if len({*percents}) < len(percents) or any(not 1 <= p <= 100 for p in percents):
            raise ValueError(f"model.snapshots: 1 to 100 %, each once, not {list(percents)}")
        self.kept = nn.ModuleDict({str(p): copy.deepcopy(net) for p in percents})
        self.kept.requires_grad_(False)

    def refuse_missed(self, n_epochs: int) -> None:
        """Refuse percentages at which no epoch ends.

        Raises:
            UserError: with the nearest one at which one does.
        """
        for percent in map(int, self.kept):
            if percent * n_epochs % 100:
                near = max(1, round(percent * n_epochs / 100))
                raise UserError(
                    f"model.snapshots: {percent} % of {n_epochs} epochs is no whole number;"
                    f" {near} epochs are {100 * near / n_epochs:g} %"
                )

    def take(self, done: int, n_epochs: int, net: nn.Module) -> None:
        """Keep a copy, if one is due now that so many of the run's epochs are done."""
        if 100 * done % n_epochs == 0 and (percent := str(100 * done // n_epochs)) in self.kept:
            self.kept[percent].load_state_dict(net.state_dict())


def network(start: Start, share: float | None) -> dict[str, Tensor]:
    """State of the network of the run one starts from.

    Args:
        start: of that run, whose module has it as ``net``.
        share: of its epochs that were done then, in (0, 1]; None: as it was tested.

    Raises:
        UserError: where it has kept none of that share; names those that it has.
    """
    percent = None if share is None else round(100 * share)
    before = "net." if percent is None else f"{_PREFIX}{percent}."
    found = {k.removeprefix(before): w for k, w in start.weights.items() if k.startswith(before)}
    if percent is not None and not found:
        kept = [k.removeprefix(_PREFIX) for k in start.weights if k.startswith(_PREFIX)]
        percents = sorted({int(name.partition(".")[0]) for name in kept})
        raise UserError(
            f"model.snapshot: the run that this one starts from keeps nothing at {percent} % of its"
            f" epochs; kept: {percents or 'none'} (its model.snapshots)"
        )
    return found
