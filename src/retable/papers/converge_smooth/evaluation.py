"""Attacks by which robustness is measured, in float32 and evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.papers.converge_smooth.attacks import gradient, noise
from retable.papers.converge_smooth.checks import (
    refuse_counts,
    refuse_other,
    refuse_pixels,
    refuse_sizes,
)
from retable.papers.converge_smooth.losses import margin_loss


def classified(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Whether each image is classified rightly, ``(B,)``."""
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return net(images.float()).argmax(1) == labels


def survivors(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    budget: float,
    step: float,
    after: Sequence[int],
    loss: Literal["ce", "margin"] = "ce",
) -> dict[int, Tensor]:
    """Which images are still classified rightly after so many steps of PGD, ``(B,)`` each.

    As in the authors' code an image is left alone from the step on at which it is misclassified;
    here it leaves the batch, which gives the same and costs less. One attack of 50 steps therefore
    is those of 10 and of 20 from the same start as well.

    Args:
        net: in evaluation mode.
        images: in [0, 1].
        labels: of the images.
        generator: of the uniform start, on the CPU.
        budget: L-infinity radius.
        step: size of a step.
        after: numbers of steps, rising.
        loss: that is raised: cross-entropy, or the margin of Carlini and Wagner.

    Raises:
        ValueError: for a network in training mode, images that are not in [0, 1], sizes in another
            unit, numbers of steps that do not rise, or another loss.
    """
    if net.training:
        raise ValueError("net: is in training mode; robustness is measured in evaluation mode")
    refuse_other("loss", loss, ("ce", "margin"))
    refuse_sizes(budget=budget, step=step)
    refuse_counts("after", after)
    refuse_pixels(images, read=True)
    found: dict[int, Tensor] = {}
    standing = torch.arange(len(images), device=images.device)
    start = (images + noise(images, budget, generator)).clamp(0, 1)
    clean, at, given = images, start, labels
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        for number in range(after[-1] + 1):
            if len(standing) == 0:
                break
            logits, slope = _looked(net, at, given, loss)
            right = logits.argmax(1) == given
            standing, clean, given = standing[right], clean[right], given[right]
            if number in after:
                found[number] = _mask(standing, images)
            delta = at[right] - clean + step * slope[right].sign()
            at = (clean + delta.clamp(-budget, budget)).clamp(0, 1)
    return {n: found.get(n, torch.zeros_like(labels, dtype=torch.bool)) for n in after}


def _looked(net: nn.Module, at: Tensor, labels: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    def raised(logits: Tensor) -> Tensor:
        if loss == "margin":
            return margin_loss(logits, labels)
        return F.cross_entropy(logits, labels, reduction="none")

    return gradient(net, at.float(), raised)


def _mask(standing: Tensor, images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.bool, device=images.device).scatter_(
        0, standing, True
    )
