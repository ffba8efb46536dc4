"""Batches of tensors that live in memory: sliced as tensors, without workers or collating."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from retable.training.seeds import derive_seed
from retable.util.errors import UserError

Augment = Callable[[Tensor, torch.Generator], Tensor]


class TensorLoader:
    """Iterable over batches ``(inputs[i], targets[i], ...)``.

    The order of an epoch is a function of (seed, epoch), read at the start of the iteration.

    Args:
        tensors: inputs, targets and whatever else a batch has, ``(N, ...)`` each, on one device.
        batch_size: items of a batch.
        shuffle: seed of the order; None keeps the order of the tensors.
        epoch: gives the epoch that is about to run.
        augment: applied to the inputs of every batch, with a generator of (seed, epoch).
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        batch_size: int,
        *,
        shuffle: int | None = None,
        epoch: Callable[[], int] = lambda: 0,
        augment: Augment | None = None,
        drop_last: bool = False,
    ) -> None:
        if len({len(tensor) for tensor in tensors}) != 1:
            raise ValueError(f"tensors of {[len(tensor) for tensor in tensors]} items")
        if augment is not None and shuffle is None:
            raise ValueError("augmenting needs the seed of the order")
        self.tensors = tuple(tensors)
        self.batch_size = batch_size
        self.shuffle, self.epoch, self.augment = shuffle, epoch, augment
        self.drop_last = drop_last

    def __len__(self) -> int:
        """Number of batches."""
        full, rest = divmod(len(self.tensors[0]), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return self._in_order() if self.shuffle is None else self._shuffled(self.shuffle)

    def _in_order(self) -> Iterator[tuple[Tensor, ...]]:
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            stop = start + self.batch_size
            yield tuple(tensor[start:stop] for tensor in self.tensors)

    def _augmented(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        assert self.augment is not None
        out = self.augment(inputs, generator)
        if len(out) != len(inputs):
            name = getattr(self.augment, "__name__", type(self.augment).__name__)
            raise UserError(f"data.augment: {name} returns {len(out)} items for {len(inputs)}")
        return out

    def _shuffled(self, seed: int) -> Iterator[tuple[Tensor, ...]]:
        epoch = self.epoch()
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        inputs, *others = self.tensors
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        generator.manual_seed(derive_seed(seed, "augment", epoch))
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = inputs.index_select(0, chosen)
            if self.augment is not None:
                batch = self._augmented(batch, generator)
            yield batch, *(tensor.index_select(0, chosen) for tensor in others)
