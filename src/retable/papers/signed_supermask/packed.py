"""Trained masks over signed constants as ternary weights in a file of few bytes.

With a signed constant for weights a masked layer's weights are ``c`` times -1, 0 or 1. A layer is
written in whichever is smaller: two bits an entry, or 16 bits an entry that is not 0.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils import parametrize

from retable.papers.signed_supermask.masks import Layer, SampledMask, weighted
from retable.util.errors import UserError

FORMAT = "signed_supermask 1"
_FAR = 0x7FFF
"""A step this far leads to no entry; further ones follow."""

Codes = NDArray[np.uint16] | NDArray[np.uint8]


def sparse(entries: NDArray[np.int8]) -> NDArray[np.uint16]:
    """Codes of the entries -1 and 1 of ``(n,)``: ``2 (distance - 1) + [entry is -1]``.

    The distance is to the entry before, at first to position -1. ``2 _FAR`` stands for `_FAR`
    positions without an entry.
    """
    at = np.flatnonzero(entries)
    fillers, rest = np.divmod(np.diff(at, prepend=-1) - 1, _FAR)
    codes = np.full(len(at) + int(fillers.sum()), 2 * _FAR, dtype=np.uint16)
    codes[np.arange(len(at)) + np.cumsum(fillers)] = 2 * rest + (entries[at] < 0)
    return codes


def from_sparse(codes: NDArray[np.uint16], n: int) -> NDArray[np.int8]:
    """The ``(n,)`` entries of :func:`sparse` codes."""
    filler = codes == 2 * _FAR
    at = np.cumsum(np.where(filler, _FAR, (codes >> 1).astype(np.int64) + 1)) - 1
    entries = np.zeros(n, dtype=np.int8)
    entries[at[~filler]] = np.where(codes[~filler] & 1, -1, 1)
    return entries


def two_bits(entries: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Four entries a byte, the first in the highest bits, each as its value plus 1."""
    padded = np.zeros(-(-len(entries) // 4) * 4, dtype=np.uint8)
    padded[: len(entries)] = entries + 1
    return (padded.reshape(-1, 4) << np.array([6, 4, 2, 0], dtype=np.uint8)).sum(1, dtype=np.uint8)


def from_two_bits(codes: NDArray[np.uint8], n: int) -> NDArray[np.int8]:
    """The ``(n,)`` entries of :func:`two_bits` codes."""
    parts = codes[:, None] >> np.array([6, 4, 2, 0], dtype=np.uint8) & 3
    return parts.reshape(-1)[:n].astype(np.int8) - 1


def plain(net: nn.Module) -> nn.Module:
    """A copy of a network whose masked layers have the effective weights as their own."""
    made = copy.deepcopy(net)
    for _, layer in weighted(made):
        if parametrize.is_parametrized(layer, "weight"):
            weight = layer.weight.detach()
            # remove_parametrizations changes the class, which is that of the original too.
            layer.__class__ = cast("Any", parametrize.type_before_parametrizations(layer))
            del layer.parametrizations
            layer.weight = nn.Parameter(weight)
    return made.eval()


def can_pack(layers: list[Layer]) -> bool:
    """Whether masked layers have signed constants for weights, and masks that are not drawn."""
    return bool(layers) and all(_constant(layer) is not None for layer in layers)


def _constant(layer: Layer) -> float | None:
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    mask = cast("Any", layer.parametrizations).weight[0]
    low, high = mask.weight.abs().aminmax()
    return None if isinstance(mask, SampledMask) or low != high else float(low)


def pack(net: nn.Module) -> tuple[dict[str, Codes | NDArray[Any]], dict[str, Any]]:
    """A trained network's tensors as they are written, and what to know of its masked layers.

    Raises:
        ValueError: for a layer whose effective weights are not ternary.
    """
    tensors: dict[str, Codes | NDArray[Any]] = {}
    layers: dict[str, Any] = {}
    for name, layer in weighted(net):
        constant = _constant(layer)
        if constant is None:
            raise ValueError(f"layer {name or 'of the network'}: its weights are not ternary")
        entries = layer.weight.detach().sign().to(torch.int8).cpu().numpy().reshape(-1)
        few, two = sparse(entries), two_bits(entries)
        form: Literal["sparse", "two_bits"] = "sparse" if few.nbytes < two.nbytes else "two_bits"
        tensors[f"{name}.weight"] = few if form == "sparse" else two
        layers[f"{name}.weight"] = {
            "form": form,
            "shape": list(layer.weight.shape),
            "constant": constant,
        }
    masked = {name.removesuffix("weight") for name in layers}
    for name, tensor in net.state_dict().items():
        if not any(name.startswith(f"{layer}parametrizations.") for layer in masked):
            tensors[name] = tensor.detach().cpu().numpy()
    return tensors, layers


def unpack(tensors: dict[str, Any], layers: dict[str, Any]) -> dict[str, Tensor]:
    """The state of the network with plain weights, from what :func:`pack` gives."""
    state: dict[str, Tensor] = {}
    for name, array in tensors.items():
        if name not in layers:
            state[name] = torch.from_numpy(array)
            continue
        about = layers[name]
        decode = {"sparse": from_sparse, "two_bits": from_two_bits}[about["form"]]
        entries = decode(array, math.prod(about["shape"]))
        weight = torch.from_numpy(entries).to(torch.float32) * about["constant"]
        state[name] = weight.view(about["shape"])
    return state


def sizes(tensors: dict[str, Any], state: dict[str, Tensor]) -> dict[str, float]:
    """``bytes`` of packed tensors, ``dense_bytes`` of the state with plain weights, ``ratio``."""
    packed = sum(array.nbytes for array in tensors.values())
    dense = sum(t.numel() * t.element_size() for t in state.values())
    return {"bytes": packed, "dense_bytes": dense, "ratio": dense / packed}


def save(net: nn.Module, file: Path) -> dict[str, float]:
    """Write a trained network as one safetensors file; gives its :func:`sizes`."""
    tensors, layers = pack(net)
    about = {"format": FORMAT, "layers": json.dumps(layers)}
    safetensors.numpy.save_file(tensors, file, about)
    return sizes(tensors, unpack(tensors, layers))


def load(net: nn.Module, file: Path) -> nn.Module:
    """Give a network without masks, such as ``FCN()``, the weights of a file.

    Raises:
        UserError: for a file that is none, or of another network.
    """
    try:
        with cast("Any", safe_open(file, framework="np")) as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError(f"format {metadata.get('format')!r}, expected {FORMAT!r}")
        net.load_state_dict(unpack(tensors, json.loads(metadata["layers"])))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except Exception as error:
        raise UserError(f"{file}: is no packed network of this kind ({error})") from None
    return net.eval()
