"""BERT encoders of several sizes, with a head for masked words or one for classes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch
from torch import Tensor

from retable.papers.peft_debias.bert import Classifier, MaskedLM, Sizes
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

Network = Literal["tiny", "small", "minilm", "bert"]
Built = TypeVar("Built", MaskedLM, Classifier)

NETWORKS: dict[str, Sizes] = {
    "tiny": Sizes(2, 64, 2, 256, 64),
    "small": Sizes(2, 128, 2, 512, 256),
    "minilm": Sizes(6, 384, 12, 1536, 512),
    "bert": Sizes(12, 768, 12, 3072, 512),
}
"""``bert`` has the sizes of bert-base-uncased, whose vocabulary has 30,522 entries."""


def masked_lm(
    network: Network, vocab_size: int, *, seed: int, dropout: float = 0.1, pad: int = 0
) -> MaskedLM:
    """An encoder with the head that predicts masked words; its decoder is the embedding matrix.

    Args:
        network: one of :data:`NETWORKS`.
        vocab_size: entries of the vocabulary.
        seed: of the initial weights; the global generator is left as it was.
        dropout: of hidden states and of attention.
        pad: the padding's id, whose embedding starts as zero and gets no gradient as an input.

    Raises:
        ValueError: for an unknown network.
    """
    sizes = _sizes(network)
    make = lambda: MaskedLM(sizes, vocab_size, dropout=dropout, pad=pad)  # noqa: E731
    return _seeded(make, seed, "masked lm")


def classifier(
    network: Network,
    vocab_size: int,
    n_classes: int,
    *,
    seed: int,
    dropout: float = 0.1,
    pad: int = 0,
) -> Classifier:
    """An encoder whose pooled [CLS] is classified: dense layer, tanh, dropout, linear layer.

    Args:
        network: one of :data:`NETWORKS`.
        vocab_size: entries of the vocabulary.
        n_classes: of the head.
        seed: as in :func:`masked_lm`.
        dropout: of hidden states, of attention and before the head.
        pad: the padding's id.

    Raises:
        ValueError: for an unknown network.
    """
    sizes = _sizes(network)
    make = lambda: Classifier(sizes, vocab_size, n_classes, dropout=dropout, pad=pad)  # noqa: E731
    return _seeded(make, seed, "classifier")


def load_weights(
    model: MaskedLM | Classifier,
    weights: Mapping[str, Tensor],
    *,
    source: str,
) -> None:
    """Take weights from a state dict, such as that of bert-base-uncased.

    ``gamma`` and ``beta`` of early files are ``weight`` and ``bias``; what the network has no place
    for (the next-sentence head, a pooler) is left out. A classifier may keep its own pooler and
    head, and a patch stays; everything else has to be there.

    Args:
        model: whose weights are replaced.
        weights: by Hugging Face's names.
        source: where they come from, for messages.

    Raises:
        UserError: where weights are missing or have another shape.
    """
    own = model.state_dict()
    named = {_modern(name): tensor for name, tensor in weights.items()}
    embedding = "bert.embeddings.word_embeddings.weight"
    if "cls.predictions.decoder.weight" in own and embedding in named:
        named.setdefault("cls.predictions.decoder.weight", named[embedding])
    for name, tensor in own.items():
        if name not in named:
            if name.startswith(("bert.pooler.", "classifier.")) or ".patch." in name:
                continue
            raise UserError(f"{source}: there is no {name} among its {len(weights)} tensors")
        if named[name].shape != tensor.shape:
            shapes = f"{tuple(named[name].shape)}, not {tuple(tensor.shape)}"
            raise UserError(f"{source}: {name} has shape {shapes}")
    model.load_state_dict({k: v for k, v in named.items() if k in own}, strict=False)


def _modern(name: str) -> str:
    for early, now in (
        ("LayerNorm.gamma", "LayerNorm.weight"),
        ("LayerNorm.beta", "LayerNorm.bias"),
    ):
        name = name.replace(early, now)
    return name


def _sizes(network: str) -> Sizes:
    if network not in NETWORKS:
        near = difflib.get_close_matches(network, NETWORKS, 1, 0) or list(NETWORKS)
        raise ValueError(f"model.network: {network!r} is none of {list(NETWORKS)}; {near[0]}?")
    return NETWORKS[network]


def _seeded(make: Callable[[], Built], seed: int, purpose: str) -> Built:
    with torch.random.fork_rng(devices=[]):  # layers draw from the global generator
        torch.manual_seed(derive_seed(seed, purpose))
        return make()
