"""Molecules as trees of fragments: states, actions and steps of a batch as tensors.

A fragment has numbered ports. The first action places a fragment; each later one joins a new
fragment, by one of its ports, to a free port (stem) of the molecule; stopping is allowed from
``min_blocks`` on. With ``max_blocks`` fragments, or without a free stem, the molecule is finished
without a stop action, as in the authors' code.

P_B is uniform over the fragments that can be taken off again, the leaves. As there, this counts
actions and not isomorphic molecules, so that an object with a symmetry is drawn less often than
its reward says, even of the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

NONE = -1
TYPE, PARENT, PARENT_PORT, OWN_PORT = range(4)
"""Columns of a state: a fragment's type, the one it was joined to, and the two ports."""


@dataclass(frozen=True)
class Fragments:
    """Fragments by number of ports.

    Args:
        ports: ports of each fragment, one at least.
        entries: pairs of a fragment and the port it may be joined by; all ports where left out.
    """

    ports: tuple[int, ...]
    entries: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.ports or min(self.ports) < 1:
            raise ValueError("fragments: there has to be one, and each needs a port")
        for kind, port in self.entries:
            if not (0 <= kind < len(self.ports) and 0 <= port < self.ports[kind]):
                raise ValueError(f"fragments: no port {port} of a fragment {kind}")

    @cached_property
    def joins(self) -> tuple[tuple[int, int], ...]:
        """Pairs (fragment, port) in the order of the actions."""
        every = ((k, p) for k, count in enumerate(self.ports) for p in range(count))
        return self.entries or tuple(every)

    @cached_property
    def first(self) -> tuple[int, ...]:
        """For each fragment the entry that stands for it where it is the first."""
        kinds = [kind for kind, _ in self.joins]
        return tuple(kinds.index(kind) for kind in dict.fromkeys(kinds))


@dataclass(frozen=True)
class MoleculeSpace:
    """States and actions.

    A state is ``(max_blocks, 4)`` int64, rows in order of joining, -1 where there is none. Action
    ``(row * max_ports + port) * entries + entry`` joins an entry to a free port; the last action
    stops. In the empty state the port is written as port 0 of row 0.

    Args:
        fragments: the fragments.
        max_blocks: fragments of the largest molecule.
        min_blocks: of the smallest that may stop.
    """

    fragments: Fragments
    max_blocks: int = 8
    min_blocks: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.min_blocks <= self.max_blocks:
            raise ValueError(f"model.min_blocks: {self.min_blocks} is not in 1 .. max_blocks")

    @property
    def max_ports(self) -> int:
        """Ports of the fragment with most."""
        return max(self.fragments.ports)

    @property
    def entries(self) -> int:
        """Ways in which a fragment can be joined."""
        return len(self.fragments.joins)

    @property
    def stop(self) -> int:
        """Number of the stop action."""
        return self.max_blocks * self.max_ports * self.entries

    @property
    def actions(self) -> int:
        """Number of actions."""
        return self.stop + 1

    @property
    def steps(self) -> int:
        """Transitions of the longest trajectory: the largest molecule needs no stop."""
        return self.max_blocks

    @cached_property
    def ports(self) -> Tensor:
        """Which ports each fragment has, ``(fragments, max_ports)``."""
        return torch.arange(self.max_ports) < torch.tensor(self.fragments.ports)[:, None]

    @cached_property
    def joins(self) -> Tensor:
        """Fragment and port of each entry, ``(entries, 2)``."""
        return torch.tensor(self.fragments.joins)

    @cached_property
    def first(self) -> Tensor:
        """Which entries may be placed first, ``(entries,)`` bool."""
        allowed = torch.zeros(self.entries, dtype=torch.bool)
        allowed[list(self.fragments.first)] = True
        return allowed

    def empty(self, batch: int) -> Tensor:
        """States before the first action, ``(B, max_blocks, 4)``."""
        return torch.full((batch, self.max_blocks, 4), NONE)

    def used(self, states: Tensor) -> Tensor:
        """Ports that are joined, ``(B, max_blocks, max_ports)`` bool."""
        own = _one_hot(states[..., OWN_PORT], self.max_ports)
        # A row's port at its parent, moved to the parent's row.
        parents = _one_hot(states[..., PARENT], self.max_blocks)
        at_parent = _one_hot(states[..., PARENT_PORT], self.max_ports)
        return (own + parents.transpose(1, 2) @ at_parent) > 0

    def stems(self, states: Tensor) -> Tensor:
        """Free ports, ``(B, max_blocks, max_ports)`` bool."""
        kinds = states[..., TYPE]
        there = self.ports.to(states.device)[kinds.clamp_min(0)] & (kinds >= 0)[..., None]
        return there & ~self.used(states)

    def count(self, states: Tensor) -> Tensor:
        """Fragments of each, ``(B,)``."""
        return (states[..., TYPE] >= 0).sum(1)

    def leaves(self, states: Tensor) -> Tensor:
        """Fragments that can be taken off, ``(B,)``: with one joined port, or the only one."""
        joined = self.used(states).sum(2)
        return torch.where(self.count(states) == 1, 1, (joined == 1).sum(1))

    def ended(self, states: Tensor) -> Tensor:
        """Molecules that are finished without a stop, ``(B,)`` bool."""
        count = self.count(states)
        free = self.stems(states).flatten(1).any(1)
        return (count > 0) & ((count == self.max_blocks) | ~free)

    def valid(self, states: Tensor) -> Tensor:
        """Which actions there are, ``(B, actions)`` bool; none where a molecule is finished."""
        count = self.count(states)
        ended = self.ended(states)
        stems = self.stems(states) & ~ended[:, None, None]
        joining = stems[..., None].expand(*stems.shape, self.entries).clone()
        joining[:, 0, 0] |= (count == 0)[:, None] & self.first.to(states.device)
        stop = (count >= self.min_blocks) & ~ended
        return torch.cat([joining.flatten(1), stop[:, None]], 1)

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """States after actions ``(B,)``; a stop changes nothing."""
        slot, entry = actions // self.entries, actions % self.entries
        joined = self.joins.to(states.device)[entry]
        count = self.count(states)
        first = count == 0
        row = torch.stack(
            [
                joined[:, 0],
                torch.where(first, NONE, slot // self.max_ports),
                torch.where(first, NONE, slot % self.max_ports),
                torch.where(first, NONE, joined[:, 1]),
            ],
            1,
        )
        place = torch.arange(self.max_blocks, device=states.device) == count[:, None]
        place &= (actions != self.stop)[:, None]
        return torch.where(place[..., None], row[:, None], states)


def _one_hot(index: Tensor, size: int) -> Tensor:
    """Float one-hot ``(..., size)``, zeros where the index is -1."""
    return F.one_hot(index + 1, size + 1)[..., 1:].float()
