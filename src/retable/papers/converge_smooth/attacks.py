"""Perturbations to train on: one step from a random start, or several, without a state.

Images are in [0, 1]. Budgets, noise and steps are in the same unit. What begins another way, with
perturbations of earlier epochs, is in :mod:`.priors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from retable.papers.converge_smooth.checks import refuse_counts, refuse_pixels, refuse_sizes

Net = Callable[[Tensor], Tensor]
"""Images ``(B, C, H, W)`` to logits ``(B, K)``."""
Loss = Callable[[Tensor], Tensor]
"""Logits ``(B, K)`` to the loss of each item, ``(B,)``."""


@dataclass
class Perturbed:
    """Images to train on, and where the step to them began.

    Attributes:
        start: images at which the gradient was taken.
        logits: of these, with their graph where it was to be kept.
        images: adversarial ones.
    """

    start: Tensor
    logits: Tensor
    images: Tensor


def noise(images: Tensor, size: float, generator: torch.Generator) -> Tensor:
    """Uniform in ``[-size, size]``; drawn on the CPU, so that it is the same for every device."""
    drawn = torch.rand(images.shape, generator=generator).to(images.device)
    return (2 * drawn - 1) * size


def gradient(net: Net, start: Tensor, loss: Loss, *, keep: bool = False) -> tuple[Tensor, Tensor]:
    """Logits at some images, and the gradient of the loss with respect to the images.

    Args:
        net: the network, in the mode that it trains in.
        start: images ``(B, C, H, W)``.
        loss: of each item, so that an item's gradient does not depend on the batch.
        keep: whether the logits keep their graph.
    """
    start = start.detach().requires_grad_()
    logits = net(inner(start)).float()
    (found,) = torch.autograd.grad(loss(logits).sum(), start, retain_graph=keep)
    return (logits if keep else logits.detach()), found


def inner(start: Tensor) -> Tensor:
    """The same tensor as a node within the graph: hooks of modules cannot wait for a leaf."""
    return start.view_as(start)


def without_small(found: Tensor, quantile: float) -> Tensor:
    """A gradient whose entries below a quantile of their image's sizes are 0 (ZeroGrad)."""
    sizes = found.abs().flatten(1)
    bound = sizes.quantile(quantile, dim=1)[:, None]
    return torch.where(sizes >= bound, found.flatten(1), 0.0).view_as(found)


def agreed(found: list[Tensor]) -> Tensor:
    """Signs that several gradients agree on, 0 elsewhere (MultiGrad)."""
    signs = torch.stack([one.sign() for one in found])
    return torch.where((signs == signs[0]).all(0), signs[0], 0.0)


def single_step(
    net: Net,
    images: Tensor,
    loss: Loss,
    generator: torch.Generator,
    *,
    budget: float,
    start: float,
    step: float,
    project: bool,
    quantile: float = 0.0,
    starts: int = 1,
    keep: bool = False,
) -> Perturbed:
    """One step of size ``step`` along the sign of the gradient, from uniform noise.

    FGSM has no noise and a step of the budget; FGSM-RS (Wong et al. 2020) noise of the budget, a
    step of 1.25 budgets and the projection; N-FGSM (de Jorge et al. 2022) noise of two budgets and
    no projection. The authors' FGSM-RS has a step of the budget and no projection either, so that
    it goes up to two budgets away.

    Args:
        net: the network.
        images: in [0, 1].
        loss: of each item.
        generator: of the noise, on the CPU.
        budget: L-infinity radius of the projection.
        start: size of the noise.
        step: size of the step.
        project: whether the perturbation is clipped to the budget.
        quantile: of an image's gradient entries that are left out.
        starts: gradients, each from noise of its own, that have to agree.
        keep: whether the logits at the first start keep their graph.

    Raises:
        ValueError: for sizes in another unit, or images of integers.
    """
    refuse_sizes(budget=budget, start=start, step=step)
    refuse_pixels(images)
    first = images
    found: list[Tensor] = []
    logits = images
    for number in range(starts):
        at = (images + noise(images, start, generator)).clamp(0, 1) if start else images
        seen, one = gradient(net, at, loss, keep=keep and number == 0)
        found.append(without_small(one, quantile) if quantile else one)
        if number == 0:
            first, logits = at, seen
    direction = found[0].sign() if starts == 1 else agreed(found)
    delta = first - images + step * direction
    if project:
        delta = delta.clamp(-budget, budget)
    return Perturbed(first, logits, (images + delta).clamp(0, 1).detach())


def several_steps(
    net: Net,
    images: Tensor,
    loss: Loss,
    generator: torch.Generator,
    *,
    budget: float,
    step: float,
    steps: int,
    keep: bool = False,
) -> Perturbed:
    """Projected gradient ascent from uniform noise of the budget (Madry et al. 2018).

    Raises:
        ValueError: for sizes in another unit, images of integers, or no step.
    """
    refuse_sizes(budget=budget, step=step)
    refuse_counts("steps", [0, steps])
    refuse_pixels(images)
    start = (images + noise(images, budget, generator)).clamp(0, 1)
    at, logits = start, images
    for number in range(steps):
        seen, found = gradient(net, at, loss, keep=keep and number == 0)
        logits = seen if number == 0 else logits
        delta = (at - images + step * found.sign()).clamp(-budget, budget)
        at = (images + delta).clamp(0, 1).detach()
    return Perturbed(start, logits, at)
