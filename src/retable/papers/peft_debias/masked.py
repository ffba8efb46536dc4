"""Scores of a masked language model for single tokens, many masked sentences at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Batch = dict[str, Tensor]
LogProbs = Callable[[Batch], Tensor]
"""Of a batch with ``input_ids`` and ``attention_mask`` (B, T): log-probabilities (B, T, V)."""


class Tokenizer(Protocol):
    """What the intrinsic metrics need of a tokenizer."""

    @property
    def pad(self) -> int:
        """Id of [PAD]."""
        ...

    @property
    def mask(self) -> int:
        """Id of [MASK]."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a text between [CLS] and [SEP]."""
        ...


@dataclass(slots=True)
class Queries:
    """Masked sentences; of each the probability of one token in one position is asked."""

    sequences: list[list[int]] = field(default_factory=list[list[int]])
    positions: list[int] = field(default_factory=list[int])
    targets: list[int] = field(default_factory=list[int])

    def __len__(self) -> int:
        return len(self.sequences)

    def add(self, sequence: list[int], position: int, target: int) -> None:
        """One more."""
        self.sequences.append(sequence)
        self.positions.append(position)
        self.targets.append(target)


def masked_at(ids: Sequence[int], positions: Sequence[int], mask: int) -> Queries:
    """A sentence once for each position, masked there and nowhere else."""
    queries = Queries()
    for position in positions:
        sequence = [*ids[:position], mask, *ids[position + 1 :]]
        queries.add(sequence, position, ids[position])
    return queries


def target_log_probs(
    log_probs: LogProbs,
    queries: Queries,
    *,
    pad: int,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Log-probability of each query's token, ``(n,)`` float64 on the CPU.

    Sentences of like length share a batch, so that few positions are padding.

    Args:
        log_probs: the network, in evaluation mode.
        queries: n of them.
        pad: id of [PAD].
        batch_size: sentences that go through the network at once.
        device: of the network.
    """
    out = torch.empty(len(queries), dtype=torch.float64)
    lengths = torch.tensor([len(sequence) for sequence in queries.sequences], dtype=torch.long)
    positions = torch.tensor(queries.positions, dtype=torch.long)
    targets = torch.tensor(queries.targets, dtype=torch.long)
    with torch.no_grad():
        for rows in lengths.argsort(stable=True).split(batch_size) if len(queries) else ():
            ids = pad_sequence(
                [torch.tensor(queries.sequences[row]) for row in rows.tolist()], True, pad
            )
            mask = (torch.arange(ids.shape[1]) < lengths[rows, None]).long()
            batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
            place = (torch.arange(len(rows)), positions[rows], targets[rows])
            out[rows] = log_probs(batch)[tuple(index.to(device) for index in place)].double().cpu()
    return out


def mean_scores(
    log_probs: LogProbs,
    groups: Sequence[Queries],
    *,
    probabilities: bool,
    pad: int,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Mean over the queries of each group, ``(len(groups),)`` float64.

    Args:
        log_probs: the network.
        groups: none of them empty.
        probabilities: average p instead of log p.
        pad: id of [PAD].
        batch_size: sentences that go through the network at once.
        device: of the network.

    Raises:
        ValueError: for a group without queries.
    """
    counts = torch.tensor([len(group) for group in groups], dtype=torch.long)
    if len(groups) and int(counts.min()) == 0:
        raise ValueError(f"sentence {int(counts.argmin())} has no token to score")
    every = Queries()
    for group in groups:
        every.sequences += group.sequences
        every.positions += group.positions
        every.targets += group.targets
    scores = target_log_probs(log_probs, every, pad=pad, batch_size=batch_size, device=device)
    scores = scores.exp() if probabilities else scores
    owner = torch.arange(len(groups)).repeat_interleave(counts)
    return torch.zeros(len(groups), dtype=torch.float64).index_add_(0, owner, scores) / counts


def off_balance(percent: float) -> float:
    """Distance of a CrowS or stereotype score from 50, the score of no bias, in points.

    Debiasing aims at 50, not at less: 45.63 is farther off than 52.62.
    """
    return abs(percent - 50)
