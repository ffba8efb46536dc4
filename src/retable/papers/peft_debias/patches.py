"""Patches of parameter-efficient fine-tuning in a BERT encoder, and who trains when.

A patch is attached by putting a module in the place of one of the encoder's. What was there keeps
its parameters and their names; those of the patch have ``.patch.`` in theirs. The patch trains
upstream, all the rest downstream (PEFTDebias, section 3), where gradients still flow through it.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import nn

from retable.papers.peft_debias.bert import Bert
from retable.papers.peft_debias.patch_layers import (
    AdapterOutput,
    Bottleneck,
    LoraLinear,
    LowRank,
    Prefixes,
    PrefixSelfAttention,
    Prompt,
    PromptEncoder,
)
from retable.training.seeds import derive_seed
from retable.util.errors import nearest

Kind = Literal["adapter", "prefix_flat", "prompt_input", "lora"]

MARK = ".patch."
"""Part of the name of every parameter of a patch."""


def attach(
    bert: Bert,
    kind: Kind,
    *,
    seed: int,
    size: int | None = None,
    alpha: float | None = None,
    adapter_reads: Literal["normed", "dense"] = "normed",
) -> None:
    """Attach a patch to an encoder, at its start.

    Args:
        bert: the encoder, changed in place.
        kind: ``adapter``: a bottleneck after the feed-forward part of every layer.
            ``prefix_flat``: keys and values before those of every self-attention.
            ``prompt_input``: vectors before the embedded words. ``lora``: low-rank updates of
            query and value.
        seed: of the patch's first weights, with a generator of their own.
        size: inner width of an adapter (a sixteenth of the encoder's where it is left out),
            positions of a prefix or prompt (30), rank of a low-rank update (8).
        alpha: a low-rank update counts ``alpha / size``; its rank where it is left out.
        adapter_reads: what the bottleneck reads, see :class:`AdapterOutput`.

    Raises:
        ValueError: for another kind, a size below 1, or where a patch is attached already.
    """
    model = cast("Any", bert)
    width = bert.sizes.width
    defaults = {"adapter": max(1, width // 16), "prefix_flat": 30, "prompt_input": 30, "lora": 8}
    if kind not in defaults:
        raise ValueError(f"model.patch: {kind!r}{nearest(kind, defaults)}")
    size = defaults[kind] if size is None else size
    if size < 1:
        raise ValueError(f"model.patch_size: {size}; 1 is the smallest")
    if patch_parameters(bert):
        raise ValueError("model.patch: this encoder has one already; attach to a fresh encoder")
    layers = cast("list[Any]", bert.encoder.layer)
    like = bert.embeddings.word_embeddings.weight

    def draws(*where: str | int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(seed, "patch", kind, *where))

    if kind == "prompt_input":
        prompt = Prompt(size, width, draws()).to(like)
        model.encoder = PromptEncoder(model.encoder, prompt)
    for index, layer in enumerate(layers):
        attention = layer.attention
        if kind == "adapter":
            bottleneck = Bottleneck(width, size, draws(index)).to(like)
            layer.output = AdapterOutput(layer.output, bottleneck, reads=adapter_reads)
        elif kind == "prefix_flat":
            prefixes = Prefixes(size, width, draws(index)).to(like)
            attention.self = PrefixSelfAttention(attention.self, prefixes)
        elif kind == "lora":
            scale = 1.0 if alpha is None else alpha / size
            for name in ("query", "value"):
                linear = getattr(attention.self, name)
                update = LowRank(linear, size, scale, draws(index, name)).to(like)
                setattr(attention.self, name, LoraLinear(linear, update))
    model.train(model.training)  # new modules would drop out in an encoder that is evaluated


def patch_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of a patch by name; none where no patch is attached."""
    return {n: p for n, p in model.named_parameters() if MARK in n}


def freeze_upstream(model: nn.Module, *, freeze_head: bool = True) -> None:
    """Let the patch train alone: the encoder is frozen.

    Args:
        model: with a patch.
        freeze_head: freeze the whole head too. The authors' code trains its dense layer and
            LayerNorm, not its decoder, and drops them afterwards.
    """
    for name, parameter in model.named_parameters():
        head = not freeze_head and name.startswith("cls.predictions.transform.")
        parameter.requires_grad_(head or MARK in name)


def freeze_downstream(model: nn.Module, *, freeze_layer_norm: bool = True) -> None:
    """Let everything but the patch train.

    Args:
        model: with a patch, or without one.
        freeze_layer_norm: freeze every LayerNorm too, as the authors do.
    """
    for name, parameter in model.named_parameters():
        frozen = MARK in name or (freeze_layer_norm and "LayerNorm" in name)
        parameter.requires_grad_(not frozen)


def share(model: nn.Module) -> float:
    """Parameters of the patch for each of the network it is attached to; tied ones count once."""
    patch = sum(p.numel() for p in patch_parameters(model).values())
    return patch / (sum(p.numel() for p in model.parameters()) - patch)
