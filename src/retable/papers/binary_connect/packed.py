"""Networks whose binary weights are packed eight to a byte, for use after training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from retable.papers.binary_connect.binarize import binarize
from retable.papers.binary_connect.layers import BatchNorm, BinaryConv2d, BinaryLinear
from retable.util.errors import UserError

FORMAT = "binary_connect 1"


class PackedLayer(nn.Module):
    """A dense layer or convolution with weights in {-H, +H}, one bit each.

    Args:
        shape: of the weights, ``(out, in)`` or ``(out, in, k, k)``.
        scale: H.
    """

    def __init__(self, shape: tuple[int, ...], scale: float) -> None:
        super().__init__()
        self.shape, self.scale = shape, scale
        n_in = int(np.prod(shape[1:]))
        self.register_buffer("bits", torch.zeros(shape[0], -(-n_in // 8), dtype=torch.uint8))
        self.register_buffer("bias", torch.zeros(shape[0]))
        # The eight weights that a byte stands for, most significant bit first.
        signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
        table = torch.where(torch.from_numpy(signs).bool(), scale, -scale)
        self.register_buffer("table", table, persistent=False)

    bits: Tensor
    bias: Tensor
    table: Tensor

    @staticmethod
    def of(layer: BinaryLinear | BinaryConv2d) -> PackedLayer:
        """Pack the signs of a trained layer's weights."""
        packed = PackedLayer(tuple(layer.weight.shape), layer.scale)
        positive = (binarize(layer.weight, layer.scale, "det") > 0).flatten(1).cpu().numpy()
        packed.bits.copy_(torch.from_numpy(np.packbits(positive, axis=1)))
        if layer.bias is not None:
            packed.bias.copy_(layer.bias.detach())
        return packed.to(layer.weight.device)

    def weight(self) -> Tensor:
        """The weights, unpacked."""
        n_in = int(np.prod(self.shape[1:]))
        rows = self.table.index_select(0, self.bits.flatten().int())
        return rows.view(self.shape[0], -1)[:, :n_in].reshape(self.shape)

    def forward(self, input: Tensor) -> Tensor:
        """As the layer that was packed."""
        if len(self.shape) == 2:
            return F.linear(input, self.weight(), self.bias)
        return F.conv2d(input, self.weight(), self.bias, padding=self.shape[-1] // 2)


def pack(network: nn.Sequential) -> nn.Sequential:
    """A network for evaluation only: binary layers packed, statistics fixed, dropout left out.

    Its outputs are those of the network in evaluation mode with binary weights, bit for bit.

    Raises:
        ValueError: where a layer's weights are not binary.
    """
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, BinaryLinear | BinaryConv2d):
            if layer.mode == "none":
                raise ValueError("the network's weights are not binary: there is nothing to pack")
            layers.append(PackedLayer.of(layer))
        elif isinstance(layer, BatchNorm):
            layers.append(_fixed(layer))
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def _fixed(norm: BatchNorm) -> BatchNorm:
    fixed = BatchNorm(len(norm.weight), eps=norm.eps, spread=norm.spread)
    fixed.load_state_dict(norm.state_dict())
    if norm.source == "recomputed":
        fixed.running_mean.copy_(norm.recomputed_mean)
        fixed.running_spread.copy_(norm.recomputed_spread)
    # One set of statistics is all that evaluation needs.
    del fixed.recomputed_mean, fixed.recomputed_spread
    return fixed.requires_grad_(False).to(norm.weight.device)


def sizes(network: nn.Sequential, packed: nn.Sequential) -> dict[str, float]:
    """Bytes of the weights and of everything, packed and dense.

    Returns:
        ``weight_bytes`` and ``bytes`` of the packed network, ``weight_bytes_16`` of dense weights
        of 16 bits, and ``weight_ratio``, ``ratio``: how many times smaller than with those.
    """
    bits = sum(layer.bits.numel() for layer in packed if isinstance(layer, PackedLayer))
    total = sum(t.numel() * t.element_size() for t in packed.state_dict().values())
    dense = 2 * sum(
        layer.weight.numel() for layer in network if isinstance(layer, BinaryLinear | BinaryConv2d)
    )
    return {
        "weight_bytes": bits,
        "bytes": total,
        "weight_bytes_16": dense,
        "weight_ratio": dense / bits,
        "ratio": (dense + total - bits) / total,
    }


def save(packed: nn.Sequential, file: Path) -> None:
    """Write a packed network as one safetensors file; its layers are listed in the metadata."""
    layers = json.dumps([_describe(layer) for layer in packed])
    tensors = {name: t.contiguous().cpu() for name, t in packed.state_dict().items()}
    safetensors.torch.save_file(tensors, file, {"format": FORMAT, "layers": layers})


def load(file: Path) -> nn.Sequential:
    """Read a packed network.

    Raises:
        UserError: for a file that is none.
    """
    try:
        with cast("Any", safe_open(file, framework="pt")) as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError(f"format {metadata.get('format')!r}, expected {FORMAT!r}")
        packed = nn.Sequential(*[_layer(node) for node in json.loads(metadata["layers"])])
        packed.load_state_dict(tensors)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except Exception as error:
        raise UserError(f"{file}: is no packed network ({error})") from None
    return packed.eval()


def _describe(layer: nn.Module) -> dict[str, Any]:
    match layer:
        case PackedLayer():
            return {"kind": "packed", "shape": list(layer.shape), "scale": layer.scale}
        case BatchNorm():
            return {
                "kind": "norm",
                "n": len(layer.weight),
                "eps": layer.eps,
                "spread": layer.spread,
            }
        case nn.MaxPool2d():
            return {"kind": "pool"}
        case nn.ReLU():
            return {"kind": "relu"}
        case nn.Flatten():
            return {"kind": "flatten"}
        case _:
            raise ValueError(f"{type(layer).__name__}: cannot be written")


def _layer(node: dict[str, Any]) -> nn.Module:
    match node["kind"]:
        case "packed":
            return PackedLayer(tuple(node["shape"]), float(node["scale"]))
        case "norm":
            norm = BatchNorm(node["n"], eps=float(node["eps"]), spread=node["spread"])
            del norm.recomputed_mean, norm.recomputed_spread
            return norm
        case "pool":
            return nn.MaxPool2d(2)
        case "relu":
            return nn.ReLU()
        case "flatten":
            return nn.Flatten()
        case kind:
            raise ValueError(f"unknown layer {kind!r}")
