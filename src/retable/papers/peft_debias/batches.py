"""Texts as tokens in memory, and their batches in the order of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from retable.training.seeds import derive_seed

Batch = dict[str, Tensor]
"""``input_ids`` and ``attention_mask`` ``(B, T)`` int64, ``labels`` or ``label``, and more."""

Finish = Callable[[Batch, Tensor, int], Batch]
"""Called with a batch, the numbers of its items ``(B,)`` and the number of the pass."""

CHUNK = 50
"""Batches whose items are sorted by length together."""


@dataclass(frozen=True)
class Rows:
    """Texts of a split and what is known of each: tensors ``(N, ...)`` by their names."""

    texts: Sequence[str]
    columns: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


class Encoded:
    """Rows of a split as tokens, one after the other.

    Args:
        tokens: those of each text.
        columns: what batches have besides, ``(N, ...)`` each.
        pad: number of the token that fills.
        device: where they are held, and batches are made.
    """

    def __init__(
        self,
        tokens: Sequence[Sequence[int]],
        columns: Mapping[str, Tensor],
        pad: int,
        device: torch.device | None = None,
    ) -> None:
        self.lengths = torch.tensor([len(row) for row in tokens], dtype=torch.int64)
        flat = torch.tensor([number for row in tokens for number in row], dtype=torch.int64)
        self.flat = flat.to(device)
        self.starts = (self.lengths.cumsum(0) - self.lengths).to(device)
        self.columns = {name: column.to(device) for name, column in columns.items()}
        self.pad = pad

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.lengths)

    def batch(self, items: Tensor) -> Batch:
        """The texts of the given numbers ``(B,)``, filled to the longest."""
        device = self.flat.device
        lengths, rows = self.lengths[items], items.to(device)
        places = torch.arange(int(lengths.max()), device=device)
        within = places < lengths.to(device)[:, None]
        index = (self.starts[rows][:, None] + places).clamp_(max=len(self.flat) - 1)
        return {
            "input_ids": self.flat[index].where(within, self.pad),
            "attention_mask": within.long(),
            **{name: column[rows] for name, column in self.columns.items()},
        }


def bucketed(lengths: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """Batches of one pass: a random order, sorted by length within chunks, batches shuffled.

    Args:
        lengths: of the items ``(N,)``.
        size: items of a batch; one may have fewer.
        generator: decides all.

    Returns:
        Numbers of the items of each batch.
    """
    batches: list[Tensor] = []
    for chunk in torch.randperm(len(lengths), generator=generator).split(CHUNK * size):
        batches += chunk[lengths[chunk].argsort(stable=True)].split(size)
    return [batches[k] for k in torch.randperm(len(batches), generator=generator).tolist()]


class Passes:
    """Iterable over the training batches of an epoch: as many of the passes over all as it asks.

    Pass p is a function of (seed, p) alone, and epoch e has the batches from ``e * n`` on.

    Args:
        encoded: the texts.
        size: of a batch.
        seed: the run's.
        epoch: gives the one that is about to run.
        n: batches of an epoch; None for one pass.
        finish: what is done to each batch.
    """

    def __init__(
        self,
        encoded: Encoded,
        size: int,
        seed: int,
        epoch: Callable[[], int],
        n: int | None,
        finish: Finish,
    ) -> None:
        self.encoded, self.size, self.seed = encoded, size, seed
        self.epoch, self.finish = epoch, finish
        self.pass_ = -(-len(encoded) // size)
        self.n = self.pass_ if n is None else n

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return self.n

    def __iter__(self) -> Iterator[Batch]:
        first = self.epoch() * self.n
        current, batches = -1, list[Tensor]()
        for position in range(first, first + self.n):
            number, k = divmod(position, self.pass_)
            if number != current:
                seed = derive_seed(self.seed, "order", number)
                generator = torch.Generator().manual_seed(seed)
                batches = bucketed(self.encoded.lengths, self.size, generator)
                current = number
            yield self.finish(self.encoded.batch(batches[k]), batches[k], number)


class InOrder:
    """Iterable over all texts of a split, short ones first, always the same.

    Args:
        encoded: the texts.
        size: of a batch; the last one may have fewer.
        finish: what is done to each batch.
    """

    def __init__(self, encoded: Encoded, size: int, finish: Finish) -> None:
        self.encoded, self.size, self.finish = encoded, size, finish

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.encoded) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        for items in self.encoded.lengths.argsort(stable=True).split(self.size):
            yield self.finish(self.encoded.batch(items), items, 0)
