"""BERT (Devlin et al. 2019): an encoder, with a head for masked words or one for classes.

Modules and parameters have the names of Hugging Face's ``transformers``, whose weights so fit by
name; ``scripts/check_bert.py`` compares the two. The library itself is not used, because every
process that imports torchmetrics would import it too where it is installed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-12
"""Of every LayerNorm."""


class Sizes(NamedTuple):
    """Of an encoder: layers, width, heads, width within the feed-forward part, positions."""

    layers: int
    width: int
    heads: int
    inner: int
    positions: int


class Embeddings(nn.Module):
    """Words and positions, normalised.

    Args:
        sizes: of the encoder.
        vocab_size: number of tokens.
        dropout: of the output.
        pad: token whose embedding is zero at the start and gets no gradient as an input.

    Attributes:
        sep: token after whose first place tokens are of the second kind, as those of the second
            sentence of a pair; where it is None, all are of the first.
    """

    sep: int | None = None

    def __init__(self, sizes: Sizes, vocab_size: int, dropout: float, pad: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, sizes.width, padding_idx=pad)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        self.token_type_embeddings = nn.Embedding(2, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Tokens ``(B, T)`` to ``(B, T, width)``."""
        places = self.position_embeddings.weight[: input_ids.shape[1]]
        kind = self.token_type_embeddings.weight[0]
        if self.sep is not None:
            ends = (input_ids == self.sep).long()
            kind = self.token_type_embeddings((ends.cumsum(1) - ends).clamp(max=1))
        return self.dropout(self.LayerNorm(self.word_embeddings(input_ids) + places + kind))


class SelfAttention(nn.Module):
    """Scaled dot products by head.

    Args:
        sizes: of the encoder.
        dropout: of the attention.
    """

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key = nn.Linear(sizes.width, sizes.width)
        self.value = nn.Linear(sizes.width, sizes.width)
        self.dropout = dropout
        self.heads = sizes.heads

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, width)`` to the same; ``mask`` ``(B, 1, 1, T)`` is true where a key is seen."""
        return self.mixed(self.query(x), self.key(x), self.value(x), mask)

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attention of ``(B, T, width)`` to ``(B, S, width)``; ``mask`` is ``(B, 1, 1, S)``."""
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, mask, dropout).transpose(1, 2).flatten(2)


class Output(nn.Module):
    """End of a part of a layer: ``LayerNorm(dropout(W h + b) + residual)``."""

    def __init__(self, inner: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """``(B, T, inner)`` and ``(B, T, width)`` to ``(B, T, width)``."""
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class Layer(nn.Module):
    """Self-attention, then two dense layers with GELU between, each with its residual."""

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        own, output = SelfAttention(sizes, dropout), Output(sizes.width, sizes.width, dropout)
        self.attention = nn.ModuleDict({"self": own, "output": output})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(sizes.width, sizes.inner)})
        self.output = Output(sizes.inner, sizes.width, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, width)`` to the same."""
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Encoder(nn.Module):
    """Layers one after the other."""

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(sizes, dropout) for _ in range(sizes.layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, width)`` to the same."""
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Bert(nn.Module):
    """Embeddings, encoder and, for classes, the pooled first token.

    Args:
        sizes: of the encoder.
        vocab_size: number of tokens.
        dropout: of hidden states and of attention.
        pad: number of the padding token.
        pooled: whether there is a pooler, ``tanh(W h_0 + b)``.
    """

    def __init__(
        self, sizes: Sizes, vocab_size: int, *, dropout: float, pad: int, pooled: bool
    ) -> None:
        super().__init__()
        self.sizes, self.vocab_size, self.dropout, self.pad = sizes, vocab_size, dropout, pad
        self.embeddings = Embeddings(sizes, vocab_size, dropout, pad)
        self.encoder = Encoder(sizes, dropout)
        dense = nn.Linear(sizes.width, sizes.width)
        self.pooler = nn.ModuleDict({"dense": dense}) if pooled else None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens ``(B, T)`` to ``(B, T, width)``; the mask is 0 at padding."""
        mask = attention_mask.bool()[:, None, None]
        return self.encoder(self.embeddings(input_ids), mask)

    def pool(self, hidden: Tensor) -> Tensor:
        """``(B, T, width)`` to ``(B, width)``."""
        assert self.pooler is not None
        return torch.tanh(self.pooler["dense"](hidden[:, 0]))


class Predictions(nn.Module):
    """Head for masked words; its decoder is the embedding matrix unless it is untied.

    Args:
        words: the embeddings.
    """

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        vocab_size, width = words.weight.shape
        dense, norm = nn.Linear(width, width), nn.LayerNorm(width, eps=EPS)
        self.transform = nn.ModuleDict({"dense": dense, "LayerNorm": norm})
        self.decoder = nn.Linear(width, vocab_size, bias=False)
        self.decoder.weight = words.weight
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """``(..., width)`` to logits ``(..., V)``."""
        x = self.transform["LayerNorm"](F.gelu(self.transform["dense"](hidden)))
        return self.decoder(x) + self.bias


class MaskedLM(nn.Module):
    """An encoder that predicts masked words; options as of :class:`Bert`."""

    def __init__(self, sizes: Sizes, vocab_size: int, *, dropout: float, pad: int) -> None:
        super().__init__()
        self.bert = Bert(sizes, vocab_size, dropout=dropout, pad=pad, pooled=False)
        words = self.bert.embeddings.word_embeddings
        self.cls = nn.ModuleDict({"predictions": Predictions(words)})
        self.apply(initialise)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens ``(B, T)`` to logits ``(B, T, V)``."""
        return self.cls["predictions"](self.bert(input_ids, attention_mask))


class Classifier(nn.Module):
    """An encoder whose pooled first token is classified; options as of :class:`Bert`."""

    def __init__(
        self, sizes: Sizes, vocab_size: int, n_classes: int, *, dropout: float, pad: int
    ) -> None:
        super().__init__()
        self.bert = Bert(sizes, vocab_size, dropout=dropout, pad=pad, pooled=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(sizes.width, n_classes)
        self.apply(initialise)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens ``(B, T)`` to logits ``(B, C)``."""
        pooled = self.bert.pool(self.bert(input_ids, attention_mask))
        return self.classifier(self.dropout(pooled))


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """First weights: normal(0, 0.02), biases and the padding's embedding 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        module.weight.normal_(0, 0.02)
    for name, bias in module.named_parameters(recurse=False):
        if name == "bias" and isinstance(module, nn.Linear):
            bias.zero_()
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        module.weight[module.padding_idx].zero_()
