"""A language model over three words whose logits are known, to check scores by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch

WORDS = ("red", "green", "blue")
PAD, CLS, SEP, MASK = range(4)
SIZE = 4 + len(WORDS)


@dataclass(frozen=True)
class ThreeWords:
    """Splits at white space; a word with hyphens is several tokens."""

    pad: int = PAD
    mask: int = MASK

    def encode(self, text):
        words = text.replace("-", " ").split()
        return [CLS, *(4 + WORDS.index(word) for word in words), SEP]


@dataclass(frozen=True)
class NeighbourModel:
    """Logits by the token to the left and by the mean over all tokens that are attended to."""

    left: torch.Tensor
    whole: torch.Tensor

    @classmethod
    def drawn(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randn(2, SIZE, SIZE, generator=generator, dtype=torch.float64)
        return cls(*(2 * draw))

    def __call__(self, batch):
        ids, seen = batch["input_ids"], batch["attention_mask"].double()[..., None]
        mean = (self.whole[ids] * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True)
        return (self.left[ids.roll(1, 1)] + mean).log_softmax(-1)

    def score(self, ids, position):
        """Log-probability of a token with that token masked, alone in its batch."""
        masked = torch.tensor([ids])
        masked[0, position] = MASK
        batch = {"input_ids": masked, "attention_mask": torch.ones_like(masked)}
        return float(self(batch)[0, position, ids[position]])


def unigram(*probabilities):
    """A model that knows nothing but how frequent the three words are."""
    row = torch.tensor([0.0] * 4 + list(probabilities), dtype=torch.float64).log()
    return lambda batch: row.expand(*batch["input_ids"].shape, SIZE)
