"""Batches of text for language models: drawn anew in every epoch, and what all kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from retable.data.base import DataPaths, PaperDataModule
from retable.training.seeds import derive_seed

Batch = tuple[Tensor, Tensor]
"""Tokens ``(B, T)`` and the tokens after them ``(B, T)``, int64."""

Draw = Callable[[int, int, torch.Generator], Iterator[Tensor]]
"""Called with a number of batches, the sequences of a batch and a generator, gives so many
``(B, T + 1)``."""


class Batches:
    """Iterable over the batches of an epoch.

    Args:
        draw: draws sequences.
        n: number of batches.
        size: sequences of a batch.
        seed: of the epoch that is about to run, asked at the start of the iteration.
        items: sequences of all batches, where the last one is not full.
    """

    def __init__(
        self, draw: Draw, n: int, size: int, seed: Callable[[], int], items: int | None = None
    ) -> None:
        self.draw, self.n, self.size, self.seed = draw, n, size, seed
        self.items = n * size if items is None else items

    def __len__(self) -> int:
        """Number of batches."""
        return self.n

    def __iter__(self) -> Iterator[Batch]:
        # On the CPU whatever the device: the same batches everywhere.
        generator = torch.Generator().manual_seed(self.seed())
        left = self.items
        for sequences in self.draw(self.n, self.size, generator):
            kept = sequences[:left]
            left -= len(kept)
            yield kept[:, :-1], kept[:, 1:]


class Text(PaperDataModule):
    """Base: an epoch is a number of iterations, each on sequences drawn at random.

    What an epoch has is a function of (seed, stream, epoch) alone. Validation and test are the
    same for every seed and in every epoch.

    Args:
        seed: the run's seed.
        paths: mirror and cache, given by the harness.
        context: T, tokens of a sequence that the model is given.
        batch_size: sequences of an iteration.
        iterations: of an epoch.
        eval_sequences: of a validation, of the test, and of the training data in the test.
        eval_batch_size: sequences of their batches.
        stream: number of the draw: a run that goes on from another one's weights takes another
            number, so that it does not see that one's batches again.
    """

    floor: float | None = None
    """Least loss that is possible in nats per token, where it is known."""

    vocabulary: int = 0
    """Number of tokens; 0 where it is known only after ``setup``."""

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        context: Annotated[int, Field(ge=1)],
        batch_size: Annotated[int, Field(ge=1)],
        iterations: Annotated[int, Field(ge=1)],
        eval_sequences: Annotated[int, Field(ge=1)] = 1000,
        eval_batch_size: Annotated[int, Field(ge=1)] = 250,
        stream: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(seed=seed, paths=paths)
        self.context, self.batch_size, self.iterations = context, batch_size, iterations
        self.eval_sequences, self.eval_batch_size = eval_sequences, eval_batch_size
        self.stream = stream

    def draw(self, held_out: bool) -> Draw:
        """How sequences are drawn, of the training data or of what is held out."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Of the run; batches are made on it."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _seed(self) -> int:
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return derive_seed(self.seed, "text", self.stream, epoch)

    def _fixed(self, name: str, held_out: bool) -> Batches:
        size, n = self.eval_batch_size, -(-self.eval_sequences // self.eval_batch_size)
        seed = derive_seed(0, "text", name)
        return Batches(self.draw(held_out), n, size, lambda: seed, self.eval_sequences)

    def train_dataloader(self) -> Batches:
        """Training batches of the epoch that is about to run."""
        return Batches(self.draw(False), self.iterations, self.batch_size, self._seed)

    def val_dataloader(self) -> Batches:
        """Held-out sequences, always the same."""
        return self._fixed("validation", True)

    def test_dataloader(self) -> Batches:
        """Others, always the same."""
        return self._fixed("test", True)

    def unread(self) -> tuple[Batch, int]:
        """A batch of the true shape and the batches of an epoch, for a rehearsal without a text."""
        tokens = torch.zeros(self.batch_size, self.context, dtype=torch.int64)
        return (tokens, tokens), self.iterations

    def sample(self) -> Batches:
        """As many sequences of the training data, always the same."""
        return self._fixed("training", False)


def crops(tokens: Tensor, context: int) -> Draw:
    """Sequences that begin anywhere in a text, with replacement.

    Args:
        tokens: ``(N,)``, of any integer type.
        context: T; N is greater.
    """
    within = torch.arange(context + 1, device=tokens.device)

    def draw(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        starts = torch.randint(len(tokens) - context, (n, size, 1), generator=generator)
        for batch in starts.to(tokens.device):
            yield tokens[batch + within].long()

    return draw
