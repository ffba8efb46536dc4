"""Trace of the Hessian of the loss, and norm of the Jacobian of the logits, by their weights.

Both are of the network as it is: in evaluation mode, if batch norm is to use its statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vjp, vmap

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits ``(B, C)`` and labels ``(B,)`` to their mean loss."""


def _trained(net: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


def hessian_trace(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    probes: int = 10,
    batch_size: int = 50,
    loss: Loss = F.cross_entropy,
) -> float:
    """Hutchinson's estimate of the trace of the Hessian of the mean loss.

    E[v' H v] = Tr H for v with independent signs as entries. It is exact with one probe where H is
    diagonal. Every batch has probes of its own, which averages their noise over the batches.

    Args:
        net: network, whose trained weights are meant.
        images: ``(N, C, H, W)``.
        labels: ``(N,)``.
        generator: on the CPU, of the signs.
        probes: per batch.
        batch_size: images whose gradient is held at once.
        loss: of a batch.
    """
    weights = list(_trained(net).values())
    total = 0.0
    for some, their in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        with torch.enable_grad():
            mean = loss(net(some), their)
            gradients = torch.autograd.grad(mean, weights, create_graph=True)
        found = 0.0
        for _ in range(probes):
            signs = [_signs(weight, generator) for weight in weights]
            # The graph of the gradient serves all probes: each costs one more backward pass.
            products = torch.autograd.grad(
                gradients, weights, signs, retain_graph=True, materialize_grads=True
            )
            found += sum(float((v * hv).sum()) for v, hv in zip(signs, products, strict=True))
        total += found / probes * len(their)
    return total / len(labels)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(2, like.shape, generator=generator, dtype=like.dtype)
    return (2 * drawn - 1).to(like.device)


def _logits(net: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """Logits ``(C,)`` of one image as a function of the trained weights."""

    def of_one(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return cast("Tensor", functional_call(net, weights, (image[None],)))[0]

    return of_one


def _squares(jacobian: dict[str, Tensor]) -> Tensor:
    """Sum of squares over all but the first dimension, ``(B,)``."""
    return torch.stack([j.flatten(1).square().sum(1) for j in jacobian.values()]).sum(0)


def jacobian_squares(net: nn.Module, images: Tensor, *, chunk: int = 1) -> Tensor:
    """Squared Frobenius norm of the Jacobian ``(C, P)`` of each image's logits, ``(N,)``.

    Args:
        net: network.
        images: ``(N, C, H, W)``.
        chunk: images whose Jacobian is held at once.
    """
    weights = {name: w.detach() for name, w in _trained(net).items()}
    jacobian: Any = vmap(jacrev(_logits(net)), (None, 0))
    return torch.cat([_squares(jacobian(weights, some)) for some in images.split(chunk)]).detach()


def jacobian_squares_estimated(
    net: nn.Module,
    images: Tensor,
    generator: torch.Generator,
    *,
    probes: int = 1,
    chunk: int = 50,
) -> Tensor:
    """Unbiased estimate of :func:`jacobian_squares`: E ||u' J||² = ||J||² for u ~ N(0, 1).

    Args:
        net: network.
        images: ``(N, C, H, W)``.
        generator: on the CPU.
        probes: per image; each is one backward pass.
        chunk: images whose gradients are held at once.
    """
    weights = {name: w.detach() for name, w in _trained(net).items()}
    of_one = _logits(net)

    def projected(image: Tensor, u: Tensor) -> dict[str, Tensor]:
        pulled: Any = vjp(lambda w: of_one(w, image), weights)[1]
        return pulled(u)[0]

    with torch.no_grad():
        n_classes = net(images[:1]).shape[1]
    found: list[Tensor] = []
    for some in images.split(chunk):
        squares = torch.zeros(len(some)).to(some)
        for _ in range(probes):
            u = torch.randn(len(some), n_classes, generator=generator).to(some)
            squares += _squares(cast("Any", vmap(projected))(some, u)).detach()
        found.append(squares / probes)
    return torch.cat(found)
