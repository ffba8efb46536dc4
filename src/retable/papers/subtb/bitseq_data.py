"""The problem of the bit sequences: modes, reward, and test strings at all distances from modes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from retable.papers.subtb.sequences import SequenceSpace
from retable.training.seeds import derive_seed

BLOCKS = ("00000000", "11111111", "11110000", "00001111", "00111100")
"""Blocks that modes are made of."""

_BLOCK = len(BLOCKS[0])


def bits_of(words: Tensor, k: int) -> Tensor:
    """Bits ``(..., T * k)`` of words ``(..., T)`` of k bits, the highest bit first."""
    shifts = torch.arange(k - 1, -1, -1, device=words.device)
    return ((words[..., None] >> shifts) & 1).flatten(-2)


def words_of(bits: Tensor, k: int) -> Tensor:
    """Words ``(..., n / k)`` of bits ``(..., n)``."""
    shifts = torch.arange(k - 1, -1, -1, device=bits.device)
    return (bits.unflatten(-1, (-1, k)).long() << shifts).sum(-1)


@dataclass(frozen=True)
class BitProblem:
    """Strings of n bits, written in words of k, rewarded for being near one of the modes.

    ``log R(x) = -beta * min_m Hamming(x, m)``, or that over n. The modes are the same for every
    run with the same ``problem``, whatever its seed.

    Args:
        n: bits, a multiple of 8 and of k.
        k: bits of a word.
        modes: number of modes, all different.
        beta: reward exponent. The default 2, without division by n, is that of the code of a
            follow-up paper, the one value that was read for this reward. It also fits the
            threshold: under R the bits differ from a mode's with probability 1 / (1 + e^beta), so
            that of 120 bits 14 do, where beta = 1 gives 32 (above 30) and 3 / n gives 59.
        per_bit: divide the distance by n.
        threshold: a mode is found by a string within so many bits; n / 4 where left out.
        problem: number of the draw of modes.
    """

    n: int = 120
    k: int = 1
    modes: int = 60
    beta: float = 2.0
    per_bit: bool = False
    threshold: int | None = None
    problem: int = 0

    def __post_init__(self) -> None:
        if self.k < 1 or self.n % self.k:
            raise ValueError(f"model.k: {self.k} does not divide the {self.n} bits of model.n")
        if self.n < _BLOCK or self.n % _BLOCK:
            raise ValueError(f"model.n: {self.n} is no multiple of {_BLOCK}, the blocks' length")
        possible = len(BLOCKS) ** (self.n // _BLOCK)
        if not 1 <= self.modes <= possible:
            raise ValueError(f"model.modes: {self.modes} is not in 1 .. {possible}")

    @cached_property
    def space(self) -> SequenceSpace:
        """Sequences of n / k words of a vocabulary of 2^k."""
        return SequenceSpace(2**self.k, self.n // self.k)

    @property
    def radius(self) -> int:
        """Largest distance at which a mode counts as found."""
        return self.n // 4 if self.threshold is None else self.threshold

    @cached_property
    def centres(self) -> Tensor:
        """The modes, ``(M, n)`` of 0 and 1: blocks drawn with replacement, repetitions left out."""
        generator = self.generator("modes")
        blocks = torch.tensor([[int(bit) for bit in block] for block in BLOCKS])
        found: dict[tuple[int, ...], None] = {}
        while len(found) < self.modes:
            drawn = torch.randint(len(BLOCKS), (self.n // _BLOCK,), generator=generator)
            found.setdefault(tuple(drawn.tolist()))
        return torch.stack([blocks[list(mode)].flatten() for mode in found])

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Generator of the problem's own, the same in all runs."""
        seed = derive_seed(self.problem, "bit sequences", self.n, self.modes, *purpose)
        return torch.Generator().manual_seed(seed)

    def distances(self, bits: Tensor) -> Tensor:
        """Hamming distances ``(B, M)`` of strings ``(B, n)`` to all modes, float32 and exact."""
        signs = 1.0 - 2.0 * bits
        modes = 1.0 - 2.0 * self.centres.to(bits.device)
        return (self.n - signs @ modes.t()) / 2

    def log_reward(self, distances: Tensor) -> Tensor:
        """Return log R ``(B,)`` of the distances ``(B, M)``."""
        scale = self.beta / self.n if self.per_bit else self.beta
        return -scale * distances.amin(1)

    def strings(self, purpose: str = "test", every: int = 1) -> Tensor:
        """Per mode itself and, for i = 1 .. n - 1, one string with i random bits flipped.

        Args:
            purpose: ``test``, or another word for other flips of the same modes.
            every: take each i that is a multiple of it only.

        Returns:
            ``(M * ceil(n / every), n)``; a mode's strings lie together, i rising.
        """
        flips = torch.arange(0, self.n, every)
        noise = torch.rand(
            self.modes, len(flips), self.n, generator=self.generator("strings", purpose)
        )
        flipped = noise.argsort(-1).argsort(-1) < flips[:, None]
        return (self.centres[:, None] ^ flipped).flatten(0, 1)

    def every_string(self) -> Tensor:
        """All ``(2^n, n)`` strings, for n up to 20."""
        if self.n > 20:
            raise ValueError(f"2^{self.n} strings are too many; n can be 20 at most")
        return bits_of(torch.arange(2**self.n)[:, None], self.n)
