"""Public weight files: their names as those of `networks.Blocks`, and loading them.

Read are the names of akamaster/pytorch_resnet_cifar10, of torchvision's ResNets (timm's are the
same) and ViT, and of timm's ViT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from retable.papers.base import Start
from retable.papers.subtuning.networks import Blocks, Name, stages
from retable.util.errors import UserError, nearest

# A network's first weight, by which what stands before all of its names is known.
_FIRST = re.compile(r"(?P<above>(?:.*\.)?)(?P<first>conv1|conv_proj|patch_embed\.proj)\.weight")
_RESNET_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
_VIT_BLOCK = re.compile(r"(?:encoder\.layers\.encoder_layer_|blocks\.)(\d+)\.(.+)")

_RESNET = {"conv1": "stem.0", "bn1": "stem.1", "fc": "fc", "linear": "fc"}
_VIT = {
    "conv_proj": "stem.conv_proj",
    "patch_embed.proj": "stem.conv_proj",
    "class_token": "stem.class_token",
    "cls_token": "stem.class_token",
    "encoder.pos_embedding": "stem.pos_embedding",
    "pos_embed": "stem.pos_embedding",
    "encoder.ln": "tail.ln",
    "norm": "tail.ln",
    "heads.head": "fc",
    "head": "fc",
}
_IN_VIT_BLOCK = {  # of timm, and of the files that torchvision's older releases wrote
    "norm1.": "ln_1.",
    "norm2.": "ln_2.",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj.": "self_attention.out_proj.",
    "mlp.fc1.": "mlp.0.",
    "mlp.fc2.": "mlp.3.",
    "mlp.linear_1.": "mlp.0.",
    "mlp.linear_2.": "mlp.3.",
}
_COUNTER = "num_batches_tracked"  # older files have none, and only a momentum of None reads it


def renamed(weights: Mapping[str, Tensor], name: Name) -> dict[str, Tensor]:
    """Weights of a public file by their names in `networks.network(name, ...)`.

    Of nested files (``state_dict.module.conv1.weight``) only what lies beside the network's first
    weight is read, so that an optimiser's state or an accuracy kept with it is not in the way.
    Where timm's attention has no bias of query, key and value, it is zeros.

    Args:
        weights: of the file, names of nested mappings joined by dots.
        name: of the network.

    Returns:
        The same tensors by other names; shapes are not looked at.

    Raises:
        UserError: for a file of another kind of network, one with other blocks, or a name of it
            that no such network has.
    """
    above, first = _first(weights)
    vit = first != "conv1"
    if vit != name.startswith("vit"):
        kinds = ("a ResNet", "a ViT")
        raise UserError(f"start: the weights are those of {kinds[vit]}, not of '{name}'")
    own = {k.removeprefix(above): w for k, w in weights.items() if k.startswith(above)}
    if not vit:
        _refuse_other_stages(own, name)
    found = {_in_vit(k) if vit else _in_resnet(k, name): w for k, w in own.items()}
    for k in [k for k in found if k.endswith("self_attention.in_proj_weight")]:
        found.setdefault(k.removesuffix("weight") + "bias", found[k].new_zeros(len(found[k])))
    return found


def _first(weights: Mapping[str, Tensor]) -> tuple[str, str]:
    """What stands before all names of the network, and the name of its first module."""
    matches = [m for k in weights if (m := _FIRST.fullmatch(k))]
    if not matches:
        some = ", ".join(f"'{k}'" for k in list(weights)[:3])
        raise UserError(
            f"start: no weights of a ResNet or ViT among {len(weights)} names such as {some};"
            " the first convolution is to be called 'conv1.weight', 'conv_proj.weight' or"
            " 'patch_embed.proj.weight'"
        )
    match = min(matches, key=lambda m: m["above"].count("."))
    return match["above"], match["first"]


def _refuse_other_stages(own: Mapping[str, Tensor], name: Name) -> None:
    numbers = {(int(m[1]), int(m[2])) for k in own if (m := _RESNET_BLOCK.fullmatch(k))}
    sizes = [sum(s == stage for s, _ in numbers) for stage in sorted({s for s, _ in numbers})]
    if sizes != [len(stage) for stage in stages(name)]:
        raise UserError(
            f"start: the weights' stages have {sizes} blocks, those of '{name}' have"
            f" {[len(stage) for stage in stages(name)]}"
        )


def _in_resnet(key: str, name: Name) -> str:
    if match := _RESNET_BLOCK.fullmatch(key):
        return f"blocks.{stages(name)[int(match[1]) - 1][int(match[2])]}.{match[3]}"
    return _outside(key, _RESNET)


def _in_vit(key: str) -> str:
    if match := _VIT_BLOCK.fullmatch(key):
        rest = match[2]
        for theirs, ours in _IN_VIT_BLOCK.items():
            if rest.startswith(theirs):
                rest = ours + rest.removeprefix(theirs)
        return f"blocks.{match[1]}.{rest}"
    return _outside(key, _VIT)


def _outside(key: str, names: Mapping[str, str]) -> str:
    """Our name of what is not in a block."""
    if key in names:
        return names[key]
    module, _, last = key.rpartition(".")
    if module not in names:
        raise UserError(f"start: no network here has a '{key}'{nearest(module, names)}")
    return f"{names[module]}.{last}"


def load(net: Blocks, weights: Mapping[str, Tensor], head: Literal["new", "kept"]) -> None:
    """Put weights into a network; all have to fit, by name and by shape.

    Args:
        net: takes copies of them.
        weights: by the names of `renamed`.
        head: ``new`` leaves the head as it was drawn, whatever head the weights have.

    Raises:
        UserError: for the first name that is missing, too many or of another shape. The network is
            as before then.
    """
    own = net.state_dict()
    given = {k: w for k, w in weights.items() if head == "kept" or not k.startswith("fc.")}
    for k, w in own.items():
        if k.startswith("fc."):
            if head == "kept":
                _check_head(k, w, given)
            else:
                given[k] = w
        elif k.endswith(_COUNTER):
            given.setdefault(k, torch.zeros_like(w))
        elif k not in given:
            raise UserError(f"start: the weights lack '{k}'{nearest(k, given)}")
        elif given[k].shape != w.shape:
            raise UserError(
                f"start: '{k}' is {tuple(given[k].shape)} in the weights and {tuple(w.shape)} in"
                " the network"
            )
    if more := [k for k in given if k not in own]:
        raise UserError(f"start: the network has no '{more[0]}'{nearest(more[0], own)}")
    net.load_state_dict(given)


def _check_head(key: str, own: Tensor, given: Mapping[str, Tensor]) -> None:
    if key not in given:
        raise UserError(f"model.head: kept, but the weights have no '{key}'; 'new' draws a head")
    if given[key].shape != own.shape:
        raise UserError(
            f"model.head: kept, but '{key}' is {tuple(given[key].shape)} in the weights and"
            f" {tuple(own.shape)} in the network; 'new' draws a head"
        )


def load_start(net: Blocks, start: Start, name: Name, head: Literal["new", "kept"]) -> None:
    """Put what a run starts from into its network: a public file, or another run's ``net``."""
    own = {k.removeprefix("net."): w for k, w in start.weights.items() if k.startswith("net.")}
    load(net, own or renamed(start.weights, name), head)
