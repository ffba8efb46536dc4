"""Networks as a stem, blocks B1 to BL, a tail and a linear head.

A block is a residual block, its shortcut included, or a layer of a transformer's encoder. The stem
is what comes before the blocks (with a ViT's class token and position embedding), the tail what
comes after them up to the features; neither is ever trained, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from retable.nets.resnet import CifarResNet

Name = Literal[
    "resnet8", "resnet20", "resnet26", "resnet56", "resnet18", "resnet50", "vit_tiny", "vit_b_16"
]
"""6n + 2 layers for 32 x 32 images; torchvision's 18 and 50 layers and ViT-B/16 for 224 x 224;
``vit_tiny``, of 32 x 32, is for tests."""

_CIFAR: dict[str, int] = {"resnet8": 8, "resnet20": 20, "resnet26": 26, "resnet56": 56}


class Blocks(nn.Module):
    """Images ``(B, C, H, W)`` to logits ``(B, n_classes)``, in parts that can be run apart.

    Args:
        stem: images to what the first block takes.
        blocks: L of them, each taking what the one before gives.
        tail: what the last block gives to features ``(B, d)``.
        fc: the head.

    Attributes:
        size: side to which other images are resized first (bilinearly); None: they are not.
    """

    def __init__(
        self, stem: nn.Module, blocks: Iterable[nn.Module], tail: nn.Module, fc: nn.Linear
    ) -> None:
        super().__init__()
        self.stem, self.blocks, self.tail, self.fc = stem, nn.ModuleList(blocks), tail, fc
        self.size: int | None = None

    def __len__(self) -> int:
        return len(self.blocks)

    def before(self, x: Tensor, first: int) -> Tensor:
        """What block ``first`` (from 0; L: the tail) is given for images ``x``."""
        if self.size not in (None, x.shape[-1]):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return self.between(self.stem(x), 0, first)

    def between(self, h: Tensor, first: int, last: int) -> Tensor:
        """Blocks ``first`` to ``last - 1`` of what the former is given."""
        for i in range(first, last):
            h = self.blocks[i](h)
        return h

    def after(self, h: Tensor, first: int) -> Tensor:
        """Logits of what block ``first`` is given."""
        return self.fc(self.tail(self.between(h, first, len(self))))

    def features(self, x: Tensor) -> Tensor:
        """What the head is given, ``(B, d)``."""
        return self.tail(self.before(x, len(self)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.features(x))


class _Mean(nn.Module):
    """Mean over the image: ``(B, d, H, W)`` becomes ``(B, d)``."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean."""
        return x.mean((2, 3))


class Tokens(nn.Module):
    """Stem of a ViT: images to tokens ``(B, 1 + patches, d)``, class token first."""

    def __init__(self, net: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj, self.class_token = net.conv_proj, net.class_token
        self.pos_embedding, self.dropout = net.encoder.pos_embedding, net.encoder.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Tokens with their positions."""
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), patches], 1)
        return self.dropout(tokens + self.pos_embedding)


class ClassToken(nn.Module):
    """Tail of a ViT: the last norm, of the class token alone."""

    def __init__(self, ln: nn.Module) -> None:
        super().__init__()
        self.ln = ln

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, d)``."""
        return self.ln(x[:, 0])


def network(name: Name, n_classes: int, size: int | None = None) -> Blocks:
    """A network by its name, not trained.

    Args:
        name: see `Name`.
        n_classes: outputs of the head.
        size: see `Blocks`.
    """
    net = _network(name, n_classes)
    net.size = size
    return net


def _network(name: Name, n_classes: int) -> Blocks:
    if name in _CIFAR:
        net = CifarResNet(_CIFAR[name], n_classes=n_classes)
        stem = nn.Sequential(net.conv1, net.bn1, nn.ReLU())
        return Blocks(stem, _layers(net, 3), _Mean(), net.fc)
    if name in ("resnet18", "resnet50"):
        big = getattr(torchvision.models, name)(num_classes=n_classes)
        stem = nn.Sequential(big.conv1, big.bn1, nn.ReLU(), big.maxpool)
        return Blocks(stem, _layers(big, 4), _Mean(), big.fc)
    vit = (
        torchvision.models.vit_b_16(num_classes=n_classes)
        if name == "vit_b_16"
        else VisionTransformer(32, 8, 3, 4, 24, 48, num_classes=n_classes)
    )
    head = vit.heads.head
    assert isinstance(head, nn.Linear)
    return Blocks(Tokens(vit), vit.encoder.layers, ClassToken(vit.encoder.ln), head)


def _layers(net: nn.Module, n: int) -> list[nn.Module]:
    """Blocks of the stages ``layer1`` to ``layer<n>``."""
    return [block for i in range(n) for block in net.get_submodule(f"layer{i + 1}").children()]


def stages(name: Name) -> list[tuple[int, ...]]:
    """Indices of the blocks by stage, as surgical fine-tuning has them; of a ViT one stage."""
    if name in _CIFAR:
        sizes: Sequence[int] = [(_CIFAR[name] - 2) // 6] * 3
    else:
        sizes = {"resnet18": [2] * 4, "resnet50": [3, 4, 6, 3], "vit_tiny": [3]}.get(name, [12])
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [tuple(range(a, a + n)) for a, n in zip(starts, sizes, strict=True)]


def indices(blocks: Sequence[int] | str, name: Name, n: int) -> tuple[int, ...]:
    """Indices from 0 of blocks given by their numbers, ``all``, or ``stage1``, ``stage2``, ...

    Other words are of no block.

    Raises:
        ValueError: for a number or a stage above those of the network.
    """
    if isinstance(blocks, str):
        stage = blocks.removeprefix("stage")
        if stage == blocks:
            return tuple(range(n)) if blocks == "all" else ()
        found = stages(name)
        if int(stage) > len(found):
            raise ValueError(f"model.blocks: {blocks}, but {name} has {len(found)} stages")
        return found[int(stage) - 1]
    if blocks and max(blocks) > n:
        raise ValueError(f"model.blocks: {max(blocks)}, but {name} has {n} blocks")
    return tuple(sorted({i - 1 for i in blocks}))
