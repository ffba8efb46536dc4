"""Gradients of several tasks with respect to what they share, and the backward pass of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from retable.papers.igb.gradients import GradientMethod


def task_gradients(losses: Tensor, shared: Sequence[Tensor], *, stacked: bool = False) -> Tensor:
    """The matrix of task gradients; the graph is kept.

    Args:
        losses: ``(n,)`` with their graph.
        shared: parameters, ``P`` numbers in all; one that a task does not use has gradient zero.
        stacked: one backward pass batched over the tasks instead of one pass each. Equal but for
            rounding. Takes the memory of all passes at once, and fails for the few operations that
            cannot be batched.

    Returns:
        ``(n, P)``, a row per task: the gradients in the order of ``shared``, each flattened.

    Raises:
        ValueError: losses that are no vector, or no shared parameters.
    """
    if losses.dim() != 1 or not len(losses):
        raise ValueError(f"losses: shape {tuple(losses.shape)}; one loss a task, (n,), is needed")
    if not shared:
        raise ValueError("shared: holds no parameter; a gradient method needs at least one")
    n, sizes = len(losses), [p.numel() for p in shared]
    rows = shared[0].new_empty((n, sum(sizes)))
    if stacked:
        each = torch.eye(n, dtype=losses.dtype, device=losses.device)
        _copy(rows.split(sizes, dim=1), _gradients(losses, shared, each))
        return rows
    for task, loss in enumerate(losses):
        _copy(rows[task : task + 1].split(sizes, dim=1), _gradients(loss, shared))
    return rows


def _gradients(losses: Tensor, shared: Sequence[Tensor], each: Tensor | None = None) -> Any:
    return torch.autograd.grad(
        losses,
        shared,
        each,
        retain_graph=True,
        is_grads_batched=each is not None,
        materialize_grads=True,
    )


def _copy(parts: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for part, gradient in zip(parts, gradients, strict=True):
        # An unused parameter's zeros come without the dimension of the tasks.
        part.copy_(gradient.reshape(-1, part.shape[1]))


def backward(
    losses: Tensor,
    method: GradientMethod | None,
    shared: Sequence[Tensor],
    heads: Sequence[Tensor],
    *,
    stacked: bool = False,
) -> Tensor:
    """Set the gradients of shared parameters and heads as a method says.

    What ``.grad`` held is replaced, not added to. Parameters in neither list get none: those of a
    learned loss weighting belong to ``heads``. A head that no loss uses gets None; so does a shared
    parameter where no task gradients are taken.

    Args:
        losses: ``(n,)`` with their graph, which is used up.
        method: None for the plain sum of the losses, one backward pass.
        shared: parameters that the method balances.
        heads: parameters that get the gradient of the sum of the losses, weighted by the method
            where it has task weights.
        stacked: as in :func:`task_gradients`.

    Returns:
        Weights ``(n,)`` of the tasks' gradients in that of the shared parameters, before clipping.
        Ones without a method; for PCGrad and CAGrad the coefficients of their direction.
    """
    weights = torch.ones_like(losses) if method is None else method.kept()
    if method is None or weights is not None:
        weights = cast("Tensor", weights).to(losses)
        found = torch.autograd.grad(losses @ weights, [*shared, *heads], allow_unused=True)
        _set([*shared, *heads], found)
    else:
        direction, weights, of_heads = method(task_gradients(losses, shared, stacked=stacked))
        weights = weights.to(losses)
        if heads:
            _set(heads, torch.autograd.grad(losses @ of_heads.to(losses), heads, allow_unused=True))
        parts = direction.split([p.numel() for p in shared])
        _set(shared, [g.view_as(p).to(p.dtype) for p, g in zip(shared, parts, strict=True)])
    if method is not None and method.max_norm > 0:
        nn.utils.clip_grad_norm_(shared, method.max_norm)
    return weights


def _set(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
