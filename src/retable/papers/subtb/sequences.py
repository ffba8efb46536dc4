"""Spaces of sequences that grow at the right end, their trajectories and exact likelihoods.

Appending gives a tree: each sequence has one parent, so P_B = 1, and a finished object has one
trajectory, whose probability is the object's own. A space without a stop action has objects of one
length L after L transitions; with a stop action an object of length l has l + 1 transitions, the
last one, whose log P_B is 0 too, being the stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from retable.papers.subtb.trajectories import Evaluation, Trajectories, end_with_reward

MASKED = -1e9
"""Logit of an action that is not there; finite, so that no gradient is NaN."""


@dataclass(frozen=True)
class SequenceSpace:
    """Sequences over ``words`` words.

    Args:
        words: size of the vocabulary; actions ``0 .. words - 1`` append one.
        max_length: length of every sequence, or the largest where there is a stop action.
        min_length: shortest sequence that may stop.
        stop: whether there is a stop action, number ``words``. At ``max_length`` it is the only
            one, so its probability is 1 there.
    """

    words: int
    max_length: int
    min_length: int = 0
    stop: bool = False

    def __post_init__(self) -> None:
        if self.words < 2 or self.max_length < 1:
            raise ValueError(f"{self}: needs two words and a length of one at least")
        if self.stop and not 0 <= self.min_length <= self.max_length:
            raise ValueError(f"{self}: min_length has to lie in 0 .. {self.max_length}")

    @property
    def actions(self) -> int:
        """Number of actions, the stop included."""
        return self.words + self.stop

    @property
    def steps(self) -> int:
        """Transitions of the longest trajectory, the stop included; states that are no end."""
        return self.max_length + self.stop

    @property
    def start(self) -> int:
        """Token that stands before the first word in a network's input."""
        return self.actions

    @cached_property
    def valid(self) -> Tensor:
        """Which actions there are after t words, ``(steps, actions)`` bool."""
        valid = torch.ones(self.steps, self.actions, dtype=torch.bool)
        if self.stop:
            valid[: self.min_length, self.words] = False
            valid[self.max_length, : self.words] = False
        return valid

    def inputs(self, actions: Tensor) -> Tensor:
        """Tokens that a causal network reads, ``(B, steps)``: position t is the state s_t."""
        return torch.cat([torch.full_like(actions[:, :1], self.start), actions[:, :-1]], 1)

    def mask(self, logits: Tensor) -> Tensor:
        """Logits ``(..., steps, actions)`` with those of missing actions at :data:`MASKED`."""
        if not self.stop:
            return logits
        return logits.masked_fill(~self.valid.to(logits.device), MASKED)

    def actions_of(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """Actions ``(N, steps)`` that make given sequences.

        Args:
            sequences: ``(N, max_length)`` words, anything behind a sequence's end.
            lengths: ``(N,)`` lengths in words.

        Raises:
            ValueError: where a length is none of the space's.
        """
        shortest = self.min_length if self.stop else self.max_length
        if bool(((lengths < shortest) | (lengths > self.max_length)).any()):
            raise ValueError(f"a sequence's length is not in {shortest} .. {self.max_length}")
        if not self.stop:
            return sequences
        at = torch.arange(self.steps, device=sequences.device)
        padded = F.pad(sequences, (0, 1))
        ended = torch.where(at == lengths[:, None], self.words, 0)
        return torch.where(at < lengths[:, None], padded, ended)

    def transitions(self, lengths: Tensor) -> Tensor:
        """Transitions ``(N,)`` of objects of given lengths in words."""
        return lengths + int(self.stop)


def log_probabilities(space: SequenceSpace, logits: Tensor, actions: Tensor) -> Tensor:
    """Return log P_F of actions taken.

    Args:
        space: the space.
        logits: ``(B, steps, actions)`` of a network, not masked.
        actions: ``(B, steps)``; behind a trajectory's end anything in range.

    Returns:
        ``(B, steps)``.
    """
    flat = space.mask(logits).flatten(0, 1)
    return -F.cross_entropy(flat, actions.flatten(), reduction="none").view_as(actions)


def evaluation(
    space: SequenceSpace,
    logits: Tensor,
    log_flow: Tensor,
    batch: Trajectories,
    log_z: Tensor | None = None,
) -> Evaluation:
    """Put a network's outputs together as the objectives take them.

    The flow of the end is *replaced* by log R, which takes no gradient; log P_F is the policy's
    own, whatever policy the actions were drawn from.

    Args:
        space: the space.
        logits: ``(B, steps, actions)``.
        log_flow: ``(B, steps)`` log F of the states s_0 .. s_{steps - 1}.
        batch: the trajectories, T = steps.
        log_z: parameter of trajectory balance.
    """
    log_pf = torch.where(batch.mask, log_probabilities(space, logits, batch.actions), 0.0)
    return Evaluation(
        log_flow=end_with_reward(F.pad(log_flow, (0, 1)), batch.log_reward, batch.lengths),
        log_pf=log_pf,
        log_pb=torch.zeros_like(log_pf),
        log_reward=batch.log_reward,
        lengths=batch.lengths,
        log_z=log_z,
    )


def tied_log_flow(space: SequenceSpace, logits: Tensor) -> Tensor:
    """Return log F of a state as the sum of its outgoing edges' flows, ``(B, steps)``.

    With flow matching a network's outputs are the log flows of edges. In a tree the condition at
    a state, inflow over its one edge = outflow, is detailed balance with this log F.
    """
    return space.mask(logits).logsumexp(-1)
