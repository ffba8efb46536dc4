"""An endless text of a random Markov chain, whose entropy is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from retable.papers.weight_decay.text import Draw, Text
from retable.training.seeds import derive_seed

Array = NDArray[np.float64]
_TOKENS = 2**20
"""Drawn at once, about."""


class Chain:
    """A Markov chain of order 1 or 2 over V tokens with rows drawn from a Dirichlet distribution.

    All is float64, and NumPy's: a rehearsal builds the chain where torch has shapes alone.

    Args:
        vocabulary: V.
        order: tokens that the next one depends on.
        concentration: of the Dirichlet distribution; the smaller, the fewer tokens follow.
        seed: of the draw.
    """

    def __init__(self, vocabulary: int, order: int, concentration: float, seed: int) -> None:
        rng = np.random.default_rng(derive_seed(seed, "chain", vocabulary, order))
        alpha = np.full(vocabulary, concentration)
        rows = rng.dirichlet(alpha, vocabulary**order)
        # Every token may follow, or a small concentration could make the chain fall apart.
        rows = 0.999 * rows + 0.001 / vocabulary
        self.vocabulary, self.order = vocabulary, order
        self.rows: Array = rows / rows.sum(1, keepdims=True)
        """``(V^order, V)``: of the next token, by the last ones, the oldest the highest digit."""
        self.stationary = self._stationary()
        """``(V^order,)``: of the last ``order`` tokens."""

    def _stationary(self) -> Array:
        p = np.full(len(self.rows), 1 / len(self.rows))
        while True:
            joint = (p[:, None] * self.rows).reshape((self.vocabulary,) * (self.order + 1))
            after = joint.sum(0).ravel()
            if np.abs(after - p).sum() < 1e-14:
                return after / after.sum()
            p = after

    @property
    def entropy_rate(self) -> float:
        """Nats per token, given all tokens before it: ``-sum_s pi(s) sum_c P(c|s) ln P(c|s)``."""
        return float(-(self.stationary[:, None] * self.rows * np.log(self.rows)).sum())

    def floor(self, context: int) -> float:
        """Mean over a sequence's targets of the entropy given what a model sees, in nats.

        With order 2 the first target is seen after one token only: its entropy is that of a pair
        less that of a token.
        """
        if self.order == 1:
            return self.entropy_rate
        pairs = self.stationary
        tokens = pairs.reshape(self.vocabulary, -1).sum(1)
        first = float((tokens * np.log(tokens)).sum() - (pairs * np.log(pairs)).sum())
        return (first + (context - 1) * self.entropy_rate) / context

    def tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """For :meth:`sample`: cumulated stationary distribution, and rows one above the other.

        A number in [s, s + 1) is found in the second by one search: the place is that of the next
        token in row s.
        """
        begin, rows = self.stationary.cumsum(), self.rows.cumsum(1)
        begin[-1], rows[:, -1] = 1, 1
        above = (rows + np.arange(len(rows))[:, None]).ravel()
        return torch.from_numpy(begin).to(device), torch.from_numpy(above).to(device)

    def sample(self, uniform: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Sequences ``(N, L)`` from numbers ``(N, L - order + 1)`` in [0, 1), by inversion."""
        begin, rows = tables
        state = torch.searchsorted(begin, uniform[:, 0].contiguous(), right=True)
        high = self.vocabulary ** (self.order - 1)
        tokens = [state // high, state % high] if self.order == 2 else [state]
        for number in uniform[:, 1:].t().contiguous():
            place = torch.searchsorted(rows, number + state, right=True)
            token = (place - state * self.vocabulary).clamp(0, self.vocabulary - 1)
            state = state % high * self.vocabulary + token
            tokens.append(token)
        return torch.stack(tokens, 1)


class MarkovText(Text):
    """A stream that never repeats: every sequence is drawn from one chain, the same for all seeds.

    A sequence begins in the stationary distribution. ``entropy_rate`` is that of the chain,
    ``floor`` the least mean loss on sequences of ``context`` tokens.

    Args:
        vocabulary: of the chain.
        order: tokens that the next one depends on.
        concentration: of the Dirichlet distribution of the chain's rows.
        chain: number of the chain.
        **options: of :class:`~retable.papers.weight_decay.text.Text`.
    """

    def __init__(
        self,
        *,
        vocabulary: Annotated[int, Field(ge=2, le=256)] = 64,
        order: Literal[1, 2] = 2,
        concentration: Annotated[float, Field(gt=0)] = 0.1,
        chain: Annotated[int, Field(ge=0)] = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.vocabulary = vocabulary
        self.chain = Chain(vocabulary, order, concentration, chain)
        self.entropy_rate = self.chain.entropy_rate
        self.floor = self.chain.floor(self.context)

    def draw(self, held_out: bool) -> Draw:
        """Sequences of the chain; there is nothing to hold out of what never repeats."""
        tables = self.chain.tables(self.device)
        width = self.context + 2 - self.chain.order

        def draw(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
            at_once = max(1, _TOKENS // (size * width))
            for done in range(0, n, at_once):
                shape = (min(at_once, n - done) * size, width)
                uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
                yield from self.chain.sample(uniform.to(self.device), tables).split(size)

        return draw
