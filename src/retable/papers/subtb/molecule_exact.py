"""Exact log p(x) of a molecule: dynamic programming over all molecules it contains.

Molecules are told apart up to isomorphism. Several actions can lead to the same molecule (both
ends of a chain may grow by the same fragment), so that P_F of a transition is a sum; and one
molecule can lie in another in several ways, which are one state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor

from retable.papers.subtb.molecules import (
    NONE,
    OWN_PORT,
    PARENT,
    PARENT_PORT,
    TYPE,
    MoleculeSpace,
)

Key = tuple[Any, ...]
"""Of a molecule up to isomorphism: nested (fragment, port to the parent, children by port)."""

Policy = Callable[[Tensor], Tensor]
"""States ``(S, max_blocks, 4)`` to log P_F ``(S, actions)``."""


@dataclass
class Tree:
    """A molecule as a graph: fragments, and at each joined port the neighbour and its port."""

    kinds: list[int]
    joined: list[dict[int, tuple[int, int]]]

    @classmethod
    def of(cls, state: Tensor) -> Tree:
        """The graph of a state ``(max_blocks, 4)``."""
        rows = [row for row in state.tolist() if row[TYPE] != NONE]
        tree = cls([row[TYPE] for row in rows], [{} for _ in rows])
        for number, row in enumerate(rows):
            if row[PARENT] != NONE:
                tree.joined[row[PARENT]][row[PARENT_PORT]] = (number, row[OWN_PORT])
                tree.joined[number][row[OWN_PORT]] = (row[PARENT], row[PARENT_PORT])
        return tree

    def rooted(self, node: int, within: frozenset[int], entry: int = NONE) -> Key:
        """Form of the part that hangs at a node, seen from the port it is entered by."""
        children = tuple(
            (port, self.rooted(other, within, theirs))
            for port, (other, theirs) in sorted(self.joined[node].items())
            if port != entry and other in within
        )
        return (self.kinds[node], entry, children)

    def roots(self, within: frozenset[int]) -> tuple[Key, list[int]]:
        """The key of a connected part, and all nodes that show it: one per automorphism."""
        forms = {node: self.rooted(node, within) for node in within}
        key = min(forms.values())
        return key, [node for node, form in forms.items() if form == key]

    def order(self, root: int, within: frozenset[int]) -> list[int]:
        """Nodes from a root, as :func:`state_of` numbers them."""
        found: list[int] = []

        def visit(node: int, entry: int) -> None:
            found.append(node)
            for port, (other, theirs) in sorted(self.joined[node].items()):
                if port != entry and other in within:
                    visit(other, theirs)

        visit(root, NONE)
        return found

    def parts(self) -> list[frozenset[int]]:
        """All connected parts, small ones first."""
        levels = [{frozenset([node]) for node in range(len(self.kinds))}]
        while levels[-1]:
            grown = {part | {n} for part in levels[-1] for n in self.around(part)}
            levels.append(grown)
        return [part for level in levels for part in level]

    def around(self, part: frozenset[int]) -> set[int]:
        """Nodes joined to a part and not in it."""
        return {n for node in part for n, _ in self.joined[node].values()} - part


def key_of(state: Tensor) -> Key:
    """The key of a state ``(max_blocks, 4)`` with a fragment at least."""
    tree = Tree.of(state)
    return tree.roots(frozenset(range(len(tree.kinds))))[0]


def state_of(key: Key, space: MoleculeSpace) -> Tensor:
    """The state ``(max_blocks, 4)`` that a key is written as: its root first, then depth first."""
    state = space.empty(1)[0]
    numbers = count()

    def write(form: Key, parent: int, port: int) -> None:
        kind, entry, children = form
        number = next(numbers)
        state[number] = torch.tensor([kind, parent, port, entry])
        for at, child in children:
            write(child, number, at)

    write(key, NONE, NONE)
    return state


@dataclass
class _Contained:
    """Molecules that are contained in one, and the actions that lead from one to the next."""

    keys: dict[Key, int] = field(default_factory=dict[Key, int])
    sizes: list[int] = field(default_factory=list[int])
    actions: dict[tuple[int, int], set[int]] = field(
        default_factory=dict[tuple[int, int], set[int]]
    )

    def number(self, key: Key, size: int) -> int:
        """Number of a molecule, a new one where it is new."""
        if key not in self.keys:
            self.keys[key] = len(self.sizes)
            self.sizes.append(size)
        return self.keys[key]


def _contained(tree: Tree, space: MoleculeSpace) -> _Contained:
    found = _Contained()
    entries = {join: number for number, join in enumerate(space.fragments.joins)}
    known = {part: tree.roots(part) for part in tree.parts()}
    for part, (key, roots) in known.items():
        start = found.number(key, len(part))
        for node in tree.around(part):
            end = found.number(known[part | {node}][0], len(part) + 1)
            ((own, (parent, port)),) = [
                (p, other) for p, other in tree.joined[node].items() if other[0] in part
            ]
            entry = entries.get((tree.kinds[node], own))
            if entry is None:
                continue
            for root in roots:
                row = tree.order(root, part).index(parent)
                action = (row * space.max_ports + port) * space.entries + entry
                found.actions.setdefault((start, end), set()).add(action)
    return found


def log_likelihood(state: Tensor, space: MoleculeSpace, policy: Policy) -> float:
    """Return log p(x) of the molecule of a state, the stop's factor included.

    Args:
        state: ``(max_blocks, 4)``.
        space: the space.
        policy: log P_F of states; it must not depend on the order of rows.

    Raises:
        ValueError: for a molecule that no trajectory ends with.
    """
    tree = Tree.of(state)
    size = len(tree.kinds)
    if size < space.min_blocks and not bool(space.ended(state[None])):
        raise ValueError(f"a molecule of {size} fragments cannot stop here")
    found = _contained(tree, space)
    states = torch.stack([space.empty(1)[0], *(state_of(key, space) for key in found.keys)])
    log_pf = policy(states).double()
    reached = torch.full((len(found.sizes),), -torch.inf, dtype=torch.float64)
    for key, number in found.keys.items():
        if found.sizes[number] == 1:
            entry = space.fragments.first[_kinds_in_order(space).index(key[0])]
            reached[number] = log_pf[0, entry]
    # Every transition adds a fragment, so that by size all parents come before their children.
    by_size = sorted(found.actions.items(), key=lambda item: found.sizes[item[0][0]])
    for (start, end), actions in by_size:
        chosen = log_pf[1 + start, sorted(actions)].logsumexp(0)
        reached[end] = torch.logaddexp(reached[end], reached[start] + chosen)
    whole = found.keys[tree.roots(frozenset(range(size)))[0]]
    log_p = reached[whole]
    if not bool(space.ended(state[None])):
        log_p = log_p + log_pf[1 + whole, space.stop]
    return float(log_p)


def _kinds_in_order(space: MoleculeSpace) -> list[int]:
    return [space.fragments.joins[entry][0] for entry in space.fragments.first]
