"""LoRA in the attention of a transformer's layer, as the authors have coded it.

Hu et al. (ICLR 2022) add ``(alpha / r) B A x`` to a frozen linear map. In the authors' code query,
key and value share one pair of matrices, ``A: d -> 3 r`` and ``B: 3 r -> 3 d``, of which B is
dense and so mixes the three; the output's projection has a pair of its own; alpha is 768.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock

from retable.util.errors import UserError

ALPHA = 768.0


class LoRAAttention(nn.Module):
    """Self-attention whose weights are frozen, with low-rank terms that are trained.

    A is drawn as `torch.nn.Linear` draws its weight, B is zeros: at first the outputs are those of
    the attention given.

    Args:
        attention: ``batch_first``, with one in-projection for query, key and value.
        rank: r.
    """

    def __init__(self, attention: nn.MultiheadAttention, rank: int) -> None:
        super().__init__()
        d = attention.embed_dim
        like: dict[str, Any] = {
            "device": attention.in_proj_weight.device,
            "dtype": attention.in_proj_weight.dtype,
        }
        self.frozen = attention.requires_grad_(False)
        self.scale = ALPHA / rank
        self.a_qkv = nn.Linear(d, 3 * rank, bias=False, **like)
        self.b_qkv = nn.Linear(3 * rank, 3 * d, bias=False, **like)
        self.a_out = nn.Linear(d, rank, bias=False, **like)
        self.b_out = nn.Linear(rank, d, bias=False, **like)
        nn.init.zeros_(self.b_qkv.weight)
        nn.init.zeros_(self.b_out.weight)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        """Attention of tokens ``(B, T, d)`` to themselves.

        The arguments are those of `torch.nn.MultiheadAttention`; key and value are the query, and
        the weights of the attention are not given.
        """
        if key is not query or value is not query or need_weights:
            raise ValueError("self-attention only, without its weights")
        n, t, d = query.shape
        frozen, heads = self.frozen, self.frozen.num_heads
        qkv = F.linear(query, frozen.in_proj_weight, frozen.in_proj_bias)
        qkv = qkv + self.scale * self.b_qkv(self.a_qkv(query))
        q, k, v = qkv.view(n, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        dropped = frozen.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
        mixed = mixed.transpose(1, 2).reshape(n, t, d)
        return frozen.out_proj(mixed) + self.scale * self.b_out(self.a_out(mixed)), None


def add_lora(block: nn.Module, rank: int) -> None:
    """Put LoRA into a block: its attention is frozen, all else of it is trained.

    To be called when the block has its weights: their names change (``self_attention.frozen``).

    Args:
        block: a layer of torchvision's ViT, changed in place.
        rank: r, at least 1.

    Raises:
        UserError: for another block, one that has LoRA already, or a rank below 1.
    """
    if not isinstance(block, EncoderBlock):
        raise UserError(
            f"model.rank: LoRA is for the blocks of a ViT, not for a {type(block).__name__}"
        )
    if rank < 1:
        raise UserError(f"model.rank: {rank}; at least 1")
    attention = block.get_submodule("self_attention")
    if not isinstance(attention, nn.MultiheadAttention):
        raise UserError("model.rank: the block has LoRA already")
    block.requires_grad_(True)
    block.add_module("self_attention", LoRAAttention(attention, rank))
