"""Layers that stand in for those of a BERT encoder, with a patch in them.

First weights and places are those of AdapterHub, which the authors use: configurations
``pfeiffer``, ``prefix_tuning_flat``, ``prompt_tuning`` and ``lora``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.papers.peft_debias.bert import Encoder, Output, SelfAttention


def normal(shape: tuple[int, ...], std: float, draws: torch.Generator) -> nn.Parameter:
    """A parameter drawn on the CPU, the same on every device."""
    return nn.Parameter(torch.empty(shape, device="cpu").normal_(0, std, generator=draws))


class Bottleneck(nn.Module):
    """``U relu(D x + b_D) + b_U`` (Pfeiffer et al. 2021), without its residual.

    Args:
        width: of ``x``.
        inner: rows of ``D``.
        draws: of ``D`` and ``U``, normal(0, 0.02); the biases are 0.
    """

    def __init__(self, width: int, inner: int, draws: torch.Generator) -> None:
        super().__init__()
        self.down = normal((inner, width), 0.02, draws)
        self.down_bias = nn.Parameter(torch.zeros(inner, device="cpu"))
        self.up = normal((width, inner), 0.02, draws)
        self.up_bias = nn.Parameter(torch.zeros(width, device="cpu"))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to the same."""
        return F.linear(F.relu(F.linear(x, self.down, self.down_bias)), self.up, self.up_bias)


class AdapterOutput(nn.Module):
    """End of a layer, ``LayerNorm(h + adapter + x)`` for ``h`` of the feed-forward part.

    Args:
        output: the layer's own, whose parts are used.
        patch: the adapter.
        reads: ``normed``: the adapter is given ``LayerNorm(h + x)`` with the layer's own
            LayerNorm, as AdapterHub's ``pfeiffer`` does; ``dense``: ``h`` itself.
    """

    def __init__(
        self, output: Output, patch: Bottleneck, *, reads: Literal["normed", "dense"]
    ) -> None:
        super().__init__()
        self.dense, self.LayerNorm, self.dropout = output.dense, output.LayerNorm, output.dropout
        self.patch = patch
        self.reads = reads

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """``(B, T, inner)`` and the residual ``(B, T, width)`` to ``(B, T, width)``."""
        h = self.dropout(self.dense(hidden_states))
        read = self.LayerNorm(h + input_tensor) if self.reads == "normed" else h
        return self.LayerNorm(h + self.patch(read) + input_tensor)


class LowRank(nn.Module):
    """``scale B A x`` (Hu et al. 2022, LoRA); zero at the start, as ``B`` is.

    Args:
        linear: of the same widths.
        rank: rows of ``A``.
        scale: ``alpha / rank``.
        draws: of ``A``, uniform between ``-1/sqrt(width)`` and ``1/sqrt(width)``.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float, draws: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(linear.in_features)
        a = torch.empty(rank, linear.in_features, device="cpu")
        self.a = nn.Parameter(a.uniform_(-bound, bound, generator=draws))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank, device="cpu"))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        return F.linear(F.linear(x, self.a), self.b) * self.scale


class LoraLinear(nn.Module):
    """A linear layer with a low-rank update; ``weight`` and ``bias`` are the layer's."""

    def __init__(self, linear: nn.Linear, patch: LowRank) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        return F.linear(x, self.weight, self.bias) + self.patch(x)


class Prefixes(nn.Module):
    """Keys and values ``(positions, width)`` of one layer (Li and Liang 2021), without an MLP.

    Args:
        positions: before the text.
        width: of the encoder.
        draws: normal(0, 1).
    """

    def __init__(self, positions: int, width: int, draws: torch.Generator) -> None:
        super().__init__()
        self.keys = normal((positions, width), 1.0, draws)
        self.values = normal((positions, width), 1.0, draws)


class PrefixSelfAttention(SelfAttention):
    """Self-attention with keys and values that belong to no position before the text's.

    Args:
        attention: the layer's own, whose parts are used.
        patch: what comes before.
    """

    def __init__(self, attention: SelfAttention, patch: Prefixes) -> None:
        nn.Module.__init__(self)
        self.query, self.key, self.value = attention.query, attention.key, attention.value
        self.heads, self.dropout = attention.heads, attention.dropout
        self.patch = patch

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """As of :class:`SelfAttention`."""
        keys, values = (
            torch.cat([prefix.expand(len(x), -1, -1), own], 1)
            for prefix, own in (
                (self.patch.keys, self.key(x)),
                (self.patch.values, self.value(x)),
            )
        )
        return self.mixed(self.query(x), keys, values, extend_mask(mask, len(self.patch.keys)))


class Prompt(nn.Module):
    """Vectors ``(positions, width)`` before the embedded words (Lester et al. 2021).

    Args:
        positions: before the text.
        width: of the encoder.
        draws: uniform between -0.5 and 0.5.
    """

    def __init__(self, positions: int, width: int, draws: torch.Generator) -> None:
        super().__init__()
        vectors = torch.empty(positions, width, device="cpu")
        self.vectors = nn.Parameter(vectors.uniform_(-0.5, 0.5, generator=draws))


class PromptEncoder(nn.Module):
    """An encoder's layers, given a prompt before the text and giving back the text's outputs.

    The prompt joins after position embedding and LayerNorm, as in AdapterHub: the words keep their
    positions, of which a prompt takes none, and [CLS] is still the first output.

    Args:
        encoder: the network's own, whose layers are used.
        patch: the prompt.
    """

    def __init__(self, encoder: Encoder, patch: Prompt) -> None:
        super().__init__()
        self.layer = encoder.layer
        self.patch = patch

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Embedded words ``(B, T, width)`` to an output of the same shape."""
        positions = len(self.patch.vectors)
        x = torch.cat([self.patch.vectors.expand(len(x), -1, -1), x], 1)
        mask = extend_mask(mask, positions)
        for layer in self.layer:
            x = layer(x, mask)
        return x[:, positions:]


def extend_mask(mask: Tensor, positions: int) -> Tensor:
    """A mask ``(B, 1, 1, T)`` with keys before the text's, which are always seen."""
    return F.pad(mask, (positions, 0), value=True)
