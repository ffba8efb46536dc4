"""Bit sequences as an environment: draw, reward, exact likelihood, distance to the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retable.papers.subtb.bitseq_data import BitProblem, bits_of, words_of
from retable.papers.subtb.seq_model import SequenceModel, sample
from retable.papers.subtb.sequences import SequenceSpace, log_probabilities
from retable.papers.subtb.trajectories import Trajectories

CHUNK_TOKENS = 2**17
"""Tokens of one pass when likelihoods of many strings are wanted."""


@dataclass(frozen=True)
class BitSequences:
    """The environment of a problem."""

    problem: BitProblem

    @property
    def space(self) -> SequenceSpace:
        """The problem's."""
        return self.problem.space

    def trajectories(self, actions: Tensor, lengths: Tensor) -> Trajectories:
        """Trajectories of given actions ``(B, n / k)``; objects are bits ``(B, n)``."""
        bits = bits_of(actions, self.problem.k)
        log_reward = self.problem.log_reward(self.problem.distances(bits))
        return Trajectories(actions, actions, lengths, bits, log_reward)

    def draw(self, model: SequenceModel, batch: int, random_action: float = 0.0) -> Trajectories:
        """Sample trajectories, from torch's global generator."""
        return self.trajectories(*sample(model, batch, random_action=random_action))

    def found(self, bits: Tensor) -> Tensor:
        """Which modes strings ``(B, n)`` lie near, ``(M,)`` bool."""
        return (self.problem.distances(bits) <= self.problem.radius).any(0)

    def log_likelihood(self, model: SequenceModel, bits: Tensor) -> Tensor:
        """Exact log p(x) ``(N,)`` of strings ``(N, n)``, float64."""
        words = words_of(bits, self.problem.k)
        lengths = torch.full((len(words),), self.space.steps, device=words.device)
        return log_likelihood(model, words, lengths)


@torch.no_grad()
def log_likelihood(model: SequenceModel, actions: Tensor, lengths: Tensor) -> Tensor:
    """Exact log p(x) of finished sequences in causal passes: the sum of log P_F.

    Args:
        model: the network.
        actions: ``(N, steps)``.
        lengths: ``(N,)`` transitions.

    Returns:
        ``(N,)`` float64.
    """
    space, training = model.space, model.training
    model.eval()
    size = max(1, CHUNK_TOKENS // (space.steps * max(1, space.actions // 64)))
    parts: list[Tensor] = []
    at = torch.arange(space.steps, device=actions.device)
    for chosen, ends in zip(actions.split(size), lengths.split(size), strict=True):
        logits, _ = model(space.inputs(chosen))
        log_pf = log_probabilities(space, logits, chosen).double()
        parts.append(torch.where(at < ends[:, None], log_pf, 0.0).sum(1))
    model.train(training)
    return torch.cat(parts)


def exact_l1(problem: BitProblem, model: SequenceModel) -> tuple[float, float]:
    """Summed L1 distance of the model to the target, and the model's whole mass, by enumeration.

    Args:
        problem: of 20 bits at most.
        model: the network.
    """
    device = model.positions.device
    strings = problem.every_string().to(device)
    log_p = BitSequences(problem).log_likelihood(model, strings)
    log_reward = problem.log_reward(problem.distances(strings)).double()
    p, target = log_p.exp(), log_reward.softmax(0)
    return float((p - target).abs().sum()), float(p.sum())


def log_partition(problem: BitProblem) -> float:
    """Return log Z by enumeration, of 20 bits at most."""
    strings = problem.every_string()
    return float(problem.log_reward(problem.distances(strings)).double().logsumexp(0))


def spearman(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two ``(N,)`` tensors, ties at their mean rank.

    Returns 0 where one of them is constant: it orders nothing.
    """
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def _ranks(values: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    _, inverse, counts = np.unique(values.cpu().numpy(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
