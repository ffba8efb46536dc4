"""Head2Toe: a linear head on some features of all layers of a frozen network.

Evci, Dumoulin, Larochelle, Mozer: Head2Toe: Utilizing Intermediate Representations for Better
Transfer Learning (ICML 2022), and its code (``connectivity_l2``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision.models.vision_transformer import EncoderBlock

from retable.papers.subtuning.networks import Blocks

BATCH = 128
"""Images per step of a head, as in their code."""


def pooled(h: Tensor, target: int) -> Tensor:
    """Averages of a layer's output, about ``target`` of them per image.

    Args:
        h: ``(B, C, H, W)``: of the largest k x k cells with C k^2 <= target; tokens ``(B, T, d)``:
            of k groups of neighbours with d k <= target; ``(B, d)``: as they are.
        target: at most so many, but one per channel where there are more channels than that.

    Returns:
        ``(B, n)``.
    """
    if h.dim() == 2:
        return h
    if h.dim() == 4:
        k = max(1, math.isqrt(target // h.shape[1]))
        return F.adaptive_avg_pool2d(h, (min(k, h.shape[2]), min(k, h.shape[3]))).flatten(1)
    k = min(h.shape[1], max(1, target // h.shape[2]))
    return F.adaptive_avg_pool1d(h.transpose(1, 2), k).flatten(1)


def layers(net: Blocks, *, logits: bool = True) -> dict[str, nn.Module]:
    """Modules whose outputs are features, by their names in the network.

    Of a ResNet the stem, every convolution of a block (none of a shortcut), the last block; of a
    ViT per block what the attention is given, what it gives, and what the MLP gives. ``logits``
    adds the head, which is of use where it is that of the pretraining.
    """
    last = len(net) - 1
    found: dict[str, nn.Module] = {}
    for i, block in enumerate(net.blocks):
        if isinstance(block, EncoderBlock):
            names = ["ln_1", "self_attention", "mlp"]
        else:
            found.setdefault("stem", net.stem)
            names = [f"conv{j}" for j in (1, 2, 3) if hasattr(block, f"conv{j}")]
        found |= {f"blocks.{i}.{name}": block.get_submodule(name) for name in names}
        if i == last and not isinstance(block, EncoderBlock):
            found[f"blocks.{i}"] = block
    return found | ({"fc": net.fc} if logits else {})


@torch.no_grad()
def features(
    net: Blocks, images: Tensor, target: int, batch_size: int, *, logits: bool = True
) -> dict[str, Tensor]:
    """Pooled outputs of all `layers`, neither selected nor normalised yet.

    Args:
        net: is in evaluation mode meanwhile.
        images: ``(N, C, H, W)``.
        target: see `pooled`.
        batch_size: images at a time.
        logits: of the network's head too.

    Returns:
        By layer ``(N, n)``.
    """
    found: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _given: Any, out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out  # of an attention, with its weights
            found.setdefault(name, []).append(pooled(out, target))

        return hook

    hooks = [m.register_forward_hook(keep(k)) for k, m in layers(net, logits=logits).items()]
    was = net.training
    net.eval()
    try:
        for batch in images.split(batch_size):
            net(batch)
    finally:
        net.train(was)
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def joined(found: Mapping[str, Tensor], chosen: Tensor | None = None) -> Tensor:
    """Features of all layers side by side, those of each layer and image of norm 1.

    Args:
        found: of `features`.
        chosen: indices in the columns of all layers side by side; a layer's norm is that of its
            chosen features, as in their code. None: all.

    Returns:
        ``(N, n)`` in the order of the layers, and within a layer of ``chosen``; zeros stay zeros.
    """
    parts, start = list[Tensor](), 0
    for h in found.values():
        stop = start + h.shape[1]
        own = h
        if chosen is not None:
            own = h[:, chosen[(chosen >= start) & (chosen < stop)] - start]
        parts.append(F.normalize(own, dim=1))
        start = stop
    return torch.cat(parts, 1)


def group_lasso(weight: Tensor) -> Tensor:
    """``sum_j ||W_j||_2`` of ``(n, n_classes)``, a row per feature; its gradient at 0 is 0."""
    return torch.linalg.vector_norm(weight, dim=1).sum()


def fit_head(
    h: Tensor,
    labels: Tensor,
    n_classes: int,
    lasso: float,
    lr: float,
    steps: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Minimise cross-entropy plus ``lasso`` times the group lasso: Adam, cosine to 0 over steps.

    Args:
        h: features ``(N, n)``.
        labels: ``(N,)``.
        n_classes: of the head.
        lasso: lambda; 0 for the refit of what is selected.
        lr: rate at the beginning.
        steps: of `BATCH` images each (the last of a pass has what is left).
        generator: on the CPU, draws the weights (uniform, by Glorot) and the order of the images.

    Returns:
        Weight ``(n, n_classes)`` and bias ``(n_classes,)``.
    """
    bound = math.sqrt(6 / (h.shape[1] + n_classes))
    drawn = torch.rand(h.shape[1], n_classes, generator=generator)
    weight = ((2 * drawn - 1) * bound).to(h).requires_grad_()
    bias = torch.zeros(n_classes, device=h.device, dtype=h.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=lr)
    schedule = CosineAnnealingLR(optimizer, max(steps, 1))
    order: Sequence[Tensor] = ()
    for _ in range(steps):
        if not order:
            drawn = torch.randperm(len(h), generator=generator).to(h.device)
            order = [*drawn.split(BATCH)]
        batch, order = order[0], order[1:]
        optimizer.zero_grad()
        loss = F.cross_entropy(torch.addmm(bias, h[batch], weight), labels[batch])
        (loss + lasso * group_lasso(weight) if lasso else loss).backward()
        optimizer.step()
        schedule.step()
    return weight.detach(), bias.detach()


def select(weight: Tensor, fraction: float) -> Tensor:
    """Features of the largest ``s_j = sum_c W_jc^2``, largest first.

    Args:
        weight: ``(n, n_classes)``.
        fraction: F, in (0, 1].

    Returns:
        Indices ``(max(1, ⌊F n⌋),)``; of equal scores the lowest index comes first.
    """
    scores = weight.square().sum(1)
    return scores.argsort(descending=True, stable=True)[: max(1, int(fraction * len(scores)))]
