"""Masks of frozen weights, as parametrisations: a layer's ``weight`` becomes weight times mask.

The parameter that is trained are real scores of the weight's shape; gradients go straight through
the mask, to every score. A recipe (`Threshold`, `Sampled`, `TopShare`) is what a config builds; it
makes the scores and the parametrisation of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from retable.papers.signed_supermask.initial import Initial, fans


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _soft: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grads[0] * weight, None, None


def straight_through(soft: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """``weight * mask``, with the gradient for ``soft`` in the mask's place.

    The exact form of ``weight * (mask + soft - stop(soft))``: its gradient for ``soft`` is the
    weight times that for the product, also where the mask is 0.
    """
    return cast("Tensor", _StraightThrough.apply(soft, mask, weight))


def ternary(scores: Tensor, threshold: Tensor | float) -> Tensor:
    """Signed mask: the sign of scores whose size is above the threshold, else 0."""
    return scores.sign() * (scores.abs() > threshold)


def top_share(scores: Tensor, share: float) -> Tensor:
    """1 for the scores of largest size; of n scores the ``int((1 - share) n)`` smallest get 0.

    Of equal ones the first are left out.
    """
    order = scores.detach().abs().flatten().sort(stable=True).indices
    mask = torch.ones_like(order, dtype=scores.dtype)
    mask[order[: int((1 - share) * len(order))]] = 0
    return mask.view_as(scores)


class Mask(nn.Module):
    """Base of the parametrisations: frozen weight, and the mask of given scores."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def mask(self, scores: Tensor) -> Tensor:
        """Entries -1, 0 and 1 of the scores' shape."""
        raise NotImplementedError

    def soft(self, scores: Tensor) -> Tensor:
        """What the gradient of the mask is handed to."""
        return scores

    def forward(self, scores: Tensor) -> Tensor:
        """The effective weight."""
        return straight_through(self.soft(scores), self.mask(scores), self.weight)


class ThresholdMask(Mask):
    """Ternary mask ``sign(M) 1[|M| > tau]``, or binary ``1[M > tau]``, with a fixed threshold."""

    threshold: Tensor

    def __init__(self, weight: Tensor, threshold: Tensor, signed: bool) -> None:
        super().__init__(weight)
        self.register_buffer("threshold", threshold)
        self.signed = signed

    def mask(self, scores: Tensor) -> Tensor:
        """By the threshold that was set at the start."""
        if self.signed:
            return ternary(scores, self.threshold)
        return (scores > self.threshold).to(scores.dtype)


class SampledMask(Mask):
    """Bernoulli mask of probability ``sigmoid(scores)``, drawn anew whenever it is asked for."""

    def __init__(self, weight: Tensor, rescale: bool) -> None:
        super().__init__(weight)
        self.rescale = rescale

    def soft(self, scores: Tensor) -> Tensor:
        """The probability."""
        return scores.sigmoid()

    def mask(self, scores: Tensor) -> Tensor:
        """A draw of the global generator, which the harness seeds by epoch and for the test."""
        return torch.bernoulli(scores.detach().sigmoid())

    def forward(self, scores: Tensor) -> Tensor:
        """The effective weight, where asked for times entries by ones of the mask."""
        mask = self.mask(scores)
        weight = self.weight
        if self.rescale:
            weight = weight * (mask.numel() / mask.sum().clamp(min=1))
        return straight_through(self.soft(scores), mask, weight)


class TopShareMask(Mask):
    """Edge-popup: 1 for the layer's scores of largest size."""

    def __init__(self, weight: Tensor, share: float) -> None:
        super().__init__(weight)
        self.share = share

    def soft(self, scores: Tensor) -> Tensor:
        """The size."""
        return scores.abs()

    def mask(self, scores: Tensor) -> Tensor:
        """By rank."""
        return top_share(scores, self.share)


Made = tuple[Tensor, Mask]
Recipe = Callable[[Tensor, torch.Generator], Made]
"""``(weight, generator) -> (initial scores, parametrisation)``"""


@dataclass(frozen=True)
class Threshold:
    """Masks of the paper: scores uniform at first, threshold a share of the layer's largest.

    Attributes:
        initial: of the scores; ``uniform`` of kind Xavier in the paper's main results.
        share: p of ``tau = p max|M_0|``.
        signed: ternary mask; else the binary one of the paper's ablation.
        fixed: tau of every layer in place of the share's; the authors' layers have 0.01 until
            their ``update_tanh_th`` is called.
    """

    initial: Initial
    share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    signed: bool = True
    fixed: Annotated[float, Field(gt=0)] | None = None

    def __call__(self, weight: Tensor, generator: torch.Generator) -> Made:
        """Scores and mask of a layer."""
        scores = self.initial.draw(weight, generator)
        tau = self.share * scores.abs().max() if self.fixed is None else torch.tensor(self.fixed)
        return scores, ThresholdMask(weight, tau, self.signed)


@dataclass(frozen=True)
class Sampled:
    """Supermasks of Zhou et al. (NeurIPS 2019).

    Attributes:
        score: all scores at the start.
        rescale: dynamic weight rescaling.
    """

    score: float = 0.0
    rescale: bool = False

    def __call__(self, weight: Tensor, _generator: torch.Generator) -> Made:
        """Scores and mask of a layer."""
        return torch.full_like(weight, self.score), SampledMask(weight, self.rescale)


@dataclass(frozen=True)
class TopShare:
    """Edge-popup of Ramanujan et al. (CVPR 2020).

    Attributes:
        share: k, of a layer's weights that remain.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.5

    def __call__(self, weight: Tensor, generator: torch.Generator) -> Made:
        """Scores as torch draws weights (Kaiming uniform with a = √5), and mask of a layer."""
        bound = fans(weight)[0] ** -0.5
        scores = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
        return scores, TopShareMask(weight, self.share)


Layer = nn.Conv2d | nn.Linear


def weighted(net: nn.Module) -> list[tuple[str, Layer]]:
    """Convolutions and dense layers with their names, in the network's order.

    Raises:
        ValueError: where one has a bias.
    """
    found = [(name, m) for name, m in net.named_modules() if isinstance(m, Layer)]
    for name, layer in found:
        if "bias" in dict(layer.named_parameters(recurse=False)):
            raise ValueError(f"model.net: layer {name} has a bias; weights are all that is masked")
    return found


def mask_layer(layer: Layer, recipe: Recipe, generator: torch.Generator) -> Mask:
    """Freeze a layer's weight, and train scores of a mask in its place."""
    scores, mask = recipe(layer.weight.detach().clone(), generator)
    layer.weight = nn.Parameter(scores)
    # It checks that the mask gives a tensor of the scores' shape and kind.
    parametrize.register_parametrization(layer, "weight", mask)
    return mask


def scores_of(layer: Layer) -> Tensor:
    """Scores that are trained of a masked layer."""
    parametrizations: Any = layer.parametrizations
    return parametrizations.weight.original


def mask_of(layer: Layer) -> Tensor:
    """Mask of a masked layer as it is now."""
    parametrizations: Any = layer.parametrizations
    with torch.no_grad():
        return parametrizations.weight[0].mask(scores_of(layer))
