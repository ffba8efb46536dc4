"""GPT-2 (Radford et al. 2019) as in nanoGPT: decoder-only, pre-LN, tied, without biases."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Causal self-attention, ``(B, T, width)`` to the same; one product gives all q, k and v.

    Args:
        width: of the stream.
        heads: of width ``width / heads`` each.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Every position attends to itself and to those before it."""
        b, t, width = x.shape
        parts = self.c_attn(x).view(b, t, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(out.transpose(1, 2).reshape(b, t, width))


class MLP(nn.Module):
    """Two dense layers with the exact GELU between them, four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, bias=False)
        self.c_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Each position by itself."""
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    """Attention and MLP, each added to what its LayerNorm was given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """Tokens ``(B, T)`` int64 to logits ``(B, T, vocabulary)``; T up to ``context``.

    The defaults are GPT-2 small, 124 million parameters. The output layer ``lm_head`` is the token
    embedding ``wte`` itself. Weights are N(0, 0.02²), those that write into the residual stream
    (``c_proj``) N(0, 0.02² / (2 layers)); gains of LayerNorm are 1. There is no dropout.

    Args:
        vocabulary: tokens; GPT-2 has 50,257, here rounded up to a multiple of 64.
        context: positions that are embedded.
        layers: blocks.
        heads: of each attention; they divide ``width``.
        width: of the residual stream.

    Raises:
        ValueError: where the heads do not divide the width.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 50_304,
        context: int = 1024,
        layers: int = 12,
        heads: int = 12,
        width: int = 768,
    ) -> None:
        super().__init__()
        if width % heads:
            near = min(
                (h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(h - heads)
            )
            raise ValueError(f"model.net.heads: {heads} do not divide width {width}; {near} would")
        self.vocabulary, self.context = vocabulary, context
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=False)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, parameter in self.named_parameters():
            if "ln_" not in name:
                narrow = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if narrow else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each position."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.wte(tokens) + self.wpe(positions)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))
