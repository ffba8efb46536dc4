"""Which sets of blocks to try, and the greedy choice among them, whatever scores a set.

A set is a sorted tuple of blocks, counted from 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Set = tuple[int, ...]
Score = Callable[[Set], float]

Rule = Literal["gain", "patience"]
Direction = Literal["forward", "backward", "best"]
Fixed = Literal["singles", "pairs", "windows2", "windows3"]


@dataclass(frozen=True)
class Found:
    """End of a search.

    Attributes:
        chosen: the set.
        score: its score.
        steps: blocks in the order in which they were taken (forward) or left out (backward), up
            to the chosen set.
    """

    chosen: Set
    score: float
    steps: Set


class NotScored(Exception):
    """A score that is not known yet."""

    def __init__(self, blocks: Set) -> None:
        super().__init__(blocks)
        self.blocks = blocks


def greedy(
    n_blocks: int,
    score: Score,
    rule: Rule = "patience",
    direction: Direction = "forward",
    eps: float = 0.01,
) -> Found:
    """Greedy SubTuning.

    ``gain`` is Algorithm 1 of the paper: the best block of a round is taken where it is better by
    more than ``eps``; forwards it begins at a score of 0, so that one block is taken unless none
    scores more than ``eps``, and the empty set is never scored. ``patience`` is the authors' code:
    it always goes on with the best of a round, keeps the best set that it has seen, and stops where
    a round's best is more than ``eps``
    worse than that. Of equal scores the first counts, so the lowest block.

    Args:
        n_blocks: L.
        score: of a set, the higher the better.
        rule: see above.
        direction: from no block, from all of them by leaving out (as the code does for ViTs), or
            from the better of the two ends.
        eps: in the units of the score.
    """
    everything = tuple(range(n_blocks))
    forward = direction == "forward"
    if direction == "best":
        forward = score(()) >= score(everything)
    now: Set = () if forward else everything
    algorithm1 = rule == "gain" and direction == "forward"
    best = Found(now, 0.0 if algorithm1 else score(now), ())
    path: Set = ()
    while len(path) < n_blocks:
        rest = [i for i in everything if (i in now) != forward]
        tried = [(_changed(now, i, forward), i) for i in rest]
        value, step, blocks = max(
            ((score(blocks), -i, blocks) for blocks, i in tried), key=lambda t: t[:2]
        )
        stop = value <= best.score + eps if rule == "gain" else value < best.score - eps
        if stop:
            break
        now, path = blocks, (*path, -step)
        if rule == "gain" or value > best.score:
            best = Found(now, value, path)
    return best


def _changed(blocks: Set, i: int, add: bool) -> Set:
    return tuple(sorted({*blocks, i} if add else {*blocks} - {i}))


def pending(known: Mapping[Set, float], search: Callable[[Score], Found]) -> Set | Found:
    """The next set that a search asks for, or its end, from the scores that are known.

    A search that is a function of scores alone goes on after a kill with nothing but these.
    """

    def score(blocks: Set) -> float:
        if blocks not in known:
            raise NotScored(blocks)
        return known[blocks]

    try:
        return search(score)
    except NotScored as missing:
        return missing.blocks


def fixed(kind: Fixed, n_blocks: int) -> list[Set]:
    """Sets of a profile: none, all, and what `ordered` has; before pairs the single blocks."""
    singles = ordered("singles", n_blocks) if kind == "pairs" else []
    return [(), tuple(range(n_blocks)), *singles, *ordered(kind, n_blocks)]


def ordered(kind: Fixed, n_blocks: int) -> list[Set]:
    """Single blocks, pairs, or windows of n neighbours, which begin at B1, ..., B(L - n + 1)."""
    width = {"singles": 1, "windows2": 2, "windows3": 3}.get(kind)
    if width is None:
        return list(itertools.combinations(range(n_blocks), 2))
    return [tuple(range(i, i + width)) for i in range(n_blocks - width + 1)]


def most(n_blocks: int) -> int:
    """Sets that a greedy search may have to score: both ends, and L + (L - 1) + ... + 1."""
    return 2 + n_blocks * (n_blocks + 1) // 2


def named(blocks: Set, n_blocks: int) -> str:
    """A set as the paper writes it: ``B1+B7``; ``none`` and ``all``."""
    if not blocks or len(blocks) == n_blocks:
        return "all" if blocks else "none"
    return "+".join(f"B{i + 1}" for i in blocks)
