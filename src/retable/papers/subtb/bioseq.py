"""Peptides and proteins as sequences: spaces, a reward of planted motifs, top-K measures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retable.papers.subtb.sequences import SequenceSpace
from retable.training.seeds import derive_seed

ALPHABET = "ACDEFGHIKLMNPQRSTVWY"
"""The 20 amino acids; a word is the index of one."""

Task = Literal["amp", "gfp"]


def space_of(task: Task, max_length: int | None = None, min_length: int = 0) -> SequenceSpace:
    """AMP: up to 60 residues and a stop action. GFP: always 237, no stop.

    Args:
        task: which.
        max_length: in place of 60 or 237.
        min_length: shortest peptide of AMP.
    """
    if task == "amp":
        return SequenceSpace(len(ALPHABET), max_length or 60, min_length, stop=True)
    return SequenceSpace(len(ALPHABET), max_length or 237)


class Score(Protocol):
    """Score per object, and the reward made from it."""

    def score(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Scores ``(B,)`` of words ``(B, L)`` of which ``(B,)`` count."""
        ...

    def log_reward(self, score: Tensor) -> Tensor:
        """Return log R ``(B,)``."""
        ...


@dataclass(frozen=True)
class Motifs:
    """A made-up score: how many of some short motifs a sequence contains. It needs no data.

    ``log R = scale * number``.

    Args:
        number: of motifs, all different.
        length: of each.
        scale: of log R.
        words: size of the alphabet.
        problem: number of the draw of motifs.
    """

    number: int = 4
    length: int = 3
    scale: float = 2.0
    words: int = len(ALPHABET)
    problem: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.words**self.length:
            raise ValueError(f"{self}: so many different motifs do not exist")

    @cached_property
    def motifs(self) -> Tensor:
        """``(number, length)`` words."""
        seed = derive_seed(self.problem, "motifs", self.number, self.length, self.words)
        generator = torch.Generator().manual_seed(seed)
        found: dict[tuple[int, ...], None] = {}
        while len(found) < self.number:
            drawn = torch.randint(self.words, (self.length,), generator=generator)
            found.setdefault(tuple(drawn.tolist()))
        return torch.tensor(list(found))

    def score(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Motifs that stand somewhere within the length, each counted once."""
        windows = words.unfold(1, self.length, 1)
        motifs = self.motifs.to(words.device)
        there = (windows[:, :, None] == motifs).all(3)
        starts = torch.arange(windows.shape[1], device=words.device)
        inside = starts + self.length <= lengths[:, None]
        return (there & inside[..., None]).any(1).sum(1).float()

    def log_reward(self, score: Tensor) -> Tensor:
        """Proportional to the number."""
        return self.scale * score


@dataclass(frozen=True)
class Powers:
    """A score that is a reward itself: ``log R = exponent * log max(score, floor)``."""

    exponent: float = 1.0
    floor: float = 1e-6

    def log_reward(self, score: Tensor) -> Tensor:
        """In log space."""
        return self.exponent * score.clamp_min(self.floor).log()


def edit_distances(
    words: NDArray[np.int64], lengths: NDArray[np.int64], pairs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Levenshtein distances of pairs of sequences, all pairs at once.

    A row of the table follows from the one above by substitutions and deletions; insertions along
    the row are a running minimum of the entries less their column.

    Args:
        words: ``(N, L)``.
        lengths: ``(N,)`` words of each that count.
        pairs: ``(P, 2)`` of row numbers.

    Returns:
        ``(P,)``.
    """
    first, second = words[pairs[:, 0]], words[pairs[:, 1]]
    rows, columns = lengths[pairs[:, 0]], lengths[pairs[:, 1]]
    columns_of = np.arange(words.shape[1] + 1, dtype=np.int16)
    table = np.broadcast_to(columns_of, (len(pairs), len(columns_of))).copy()
    each = np.arange(len(pairs))
    found = np.where(rows == 0, columns, 0)
    for i in range(1, int(rows.max(initial=0)) + 1):
        substituted = table[:, :-1] + (second != first[:, i - 1, None])
        table += 1
        np.minimum(table[:, 1:], substituted, out=table[:, 1:], casting="unsafe")
        table -= columns_of
        np.minimum.accumulate(table, axis=1, out=table)
        table += columns_of
        found = np.where(rows == i, table[each, columns], found)
    return found


def mean_edit_distance(words: Tensor, lengths: Tensor) -> float:
    """Mean edit distance over all pairs of N sequences: the diversity of a set.

    Args:
        words: ``(N, L)``, two sequences or more.
        lengths: ``(N,)``.
    """
    pairs = np.stack(np.triu_indices(len(words), 1), 1)
    if not len(pairs):
        raise ValueError("the diversity of fewer than two sequences is not defined")
    return float(edit_distances(words.cpu().numpy(), lengths.cpu().numpy(), pairs).mean())


def top(score: Tensor, k: int) -> Tensor:
    """Positions of the k largest scores, of all where there are fewer."""
    return score.topk(min(k, len(score))).indices
