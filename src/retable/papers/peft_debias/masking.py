"""BERT's masking of tokens, drawn by counting: the same for an item in any batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""Label of a token that is not predicted."""

_DRAWS = 3
_RESOLUTION = 31


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


_GOLDEN, _FIRST, _SECOND = map(
    _signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def _shifted(x: Tensor, k: int) -> Tensor:
    return (x >> k) & ((1 << (64 - k)) - 1)


def mixed(x: Tensor) -> Tensor:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014) on 64-bit patterns, int64."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def draws(seed: int, items: Tensor, length: int) -> Tensor:
    """Three random integers for every token, uniform in ``[0, 2**31)``.

    They are a function of (seed, item, place of the token) alone.

    Args:
        seed: of the epoch.
        items: ``(B,)``, int64.
        length: T.

    Returns:
        ``(3, B, T)``, int64.
    """
    keys = mixed((items + 1) * _GOLDEN + seed)
    counts = torch.arange(1, _DRAWS * length + 1, device=items.device)
    drawn = mixed(keys[:, None] + counts * _GOLDEN)
    return _shifted(drawn, 64 - _RESOLUTION).view(len(items), length, _DRAWS).movedim(-1, 0)


def masked(
    input_ids: Tensor, items: Tensor, seed: int, tokenizer: Any, *, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Choose tokens to be predicted: of these 80 % become [MASK], 10 % random, 10 % stay.

    Special tokens, [UNK] and padding included, are never chosen. A random token is any of the
    vocabulary, as in transformers. A small batch may have no chosen token.

    Args:
        input_ids: ``(B, T)``, int64.
        items: number of each item in its data set ``(B,)``, int64.
        seed: of the epoch.
        tokenizer: with ``special``, ``mask`` and ``vocab_size``.
        share: of the tokens that is chosen.

    Returns:
        What the network is given and the labels, ``(B, T)`` int64 each; labels are the tokens where
        they were chosen and -100 elsewhere.
    """
    chance, kind, other = draws(seed, items, input_ids.shape[1])
    special = torch.tensor(tokenizer.special, device=input_ids.device)
    chosen = (chance < round(share * 2**_RESOLUTION)) & ~torch.isin(input_ids, special)
    labels = input_ids.where(chosen, IGNORED)
    hidden = chosen & (kind < round(0.8 * 2**_RESOLUTION))
    random = chosen & ~hidden & (kind < round(0.9 * 2**_RESOLUTION))
    given = input_ids.where(~hidden, tokenizer.mask)
    return given.where(~random, (other * tokenizer.vocab_size) >> _RESOLUTION), labels
