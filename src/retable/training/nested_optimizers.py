"""Optimisers inside of an optimiser (SAM, Lookahead), whose state is in no state_dict of it.

The usual implementations hold another optimiser as an attribute and share its parameter groups.
Lightning saves the outer one only, so that a resumed run would begin without momentum; here the
inner ones' states are taken out of the optimisers and put back.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

States = list[dict[str, dict[str, Any]]]
"""For each optimiser of a run: state by name of the attribute."""


def inside(optimizer: Optimizer) -> dict[str, Optimizer]:
    """Optimisers that are attributes of an optimiser, by name."""
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, Optimizer)}


class NestedOptimizers:
    """The inner optimisers of a run's optimisers, noted before a checkpoint is loaded."""

    def __init__(self, optimizers: list[Optimizer]) -> None:
        self.optimizers = optimizers
        self.sharing = [
            {name for name, inner in inside(outer).items() if inner.param_groups is groups}
            for outer in optimizers
            for groups in [outer.param_groups]
        ]

    def state_dict(self) -> States:
        """Their states."""
        return [
            {name: inner.state_dict() for name, inner in inside(outer).items()}
            for outer in self.optimizers
        ]

    def load_state_dict(self, states: States) -> None:
        """Put their states back; parameter groups that were shared are shared again."""
        for outer, saved, sharing in zip(self.optimizers, states, self.sharing, strict=True):
            for name, inner in inside(outer).items():
                inner.load_state_dict(saved[name])
                if name in sharing:
                    inner.param_groups = outer.param_groups
