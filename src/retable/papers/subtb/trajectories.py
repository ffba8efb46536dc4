"""Batches that environments, networks and objectives exchange: complete trajectories, padded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trajectories:
    """A batch of complete trajectories, padded at the end.

    A trajectory of ``n`` transitions passes ``s_0, ..., s_n``; an explicit stop counts as a
    transition. What lies at and beyond ``lengths`` is padding: any value, never read.

    Attributes:
        states: ``(B, T, ...)``, the state that action ``t`` is taken in. For sequences that are
            appended to, the tokens ``(B, T)`` themselves: the state is the prefix before ``t``.
        actions: ``(B, T)``, int64.
        lengths: ``(B,)``, int64, transitions of each; ``T`` is at least the largest.
        objects: ``(B, ...)``, the object that the trajectory ends with.
        log_reward: ``(B,)``, of the objects.
    """

    states: Tensor
    actions: Tensor
    lengths: Tensor
    objects: Tensor
    log_reward: Tensor

    @property
    def size(self) -> int:
        """Trajectories in the batch."""
        return self.actions.shape[0]

    @property
    def steps(self) -> int:
        """Padded number of transitions ``T``."""
        return self.actions.shape[1]

    @property
    def mask(self) -> Tensor:
        """``(B, T)``, true where a transition is real."""
        return steps_within(self.lengths, self.steps)


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a batch of trajectories by a model, with gradients; padding as in the batch.

    Attributes:
        log_flow: ``(B, T + 1)``, log of the state flow; its entry at each trajectory's end is
            ``log R`` (:func:`end_with_reward`).
        log_pf: ``(B, T)``, of the taken actions under the policy itself, without exploration.
        log_pb: ``(B, T)``, read at the child; 0 for a stop.
        log_reward: ``(B,)``.
        lengths: ``(B,)``.
        log_z: scalar, the parameter of trajectory balance; None where the model has none.
    """

    log_flow: Tensor
    log_pf: Tensor
    log_pb: Tensor
    log_reward: Tensor
    lengths: Tensor
    log_z: Tensor | None = None


def steps_within(lengths: Tensor, steps: int) -> Tensor:
    """``(B, steps)``, true before each length."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)


def end_with_reward(log_flow: Tensor, log_reward: Tensor, lengths: Tensor) -> Tensor:
    """Put the constant ``log R`` in the place of the flow at each trajectory's end.

    Args:
        log_flow: ``(B, T + 1)``, or ``(B, T)`` where the last state is never evaluated.
        log_reward: ``(B,)``.
        lengths: ``(B,)``, at most ``T``.

    Returns:
        ``(B, T + 1)``; no gradient reaches the entry at ``lengths``, nor ``log_reward``.
    """
    steps = int(lengths.max())
    if log_flow.shape[1] <= steps:
        missing = log_flow.new_zeros(len(log_flow), steps + 1 - log_flow.shape[1])
        log_flow = torch.cat([log_flow, missing], dim=1)
    reward = log_reward.detach().to(log_flow.dtype)
    return log_flow.scatter(1, lengths.unsqueeze(1), reward.unsqueeze(1))
