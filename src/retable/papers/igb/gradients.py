"""Gradient balancing: one direction for the shared parameters out of the gradients of all tasks.

Every method here gives a combination of the task gradients whose coefficients depend on their Gram
matrix alone, PCGrad and CAGrad too: a step costs ``n^2`` scalar products and one combination.
Directions are scaled as a sum over tasks, so that with one task MGDA, PCGrad and IMTL-G are the
summed loss. As coded by the authors there are exceptions. CAGrad is longer by
``(1 + c) / (1 + c^2)`` where all gradients agree, also with one task. Nash-MTL has weights of the
order of ``1 / ||g_i||``, with one task the unit gradient. IMTL-G's weights sum to 1, not to ``n``.

A gradient that is not finite gives weights that are NaN.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from retable.papers.igb import solvers
from retable.training.seeds import derive_seed


class Combination(NamedTuple):
    """What a method makes of the gradients of ``n`` tasks.

    Attributes:
        direction: ``(P,)``, takes the place of the gradient of the shared parameters.
        weights: ``(n,)``, of each task's gradient in the direction.
        heads: ``(n,)``, of each task's loss where heads are concerned.
    """

    direction: Tensor
    weights: Tensor
    heads: Tensor


class GradientMethod(nn.Module):
    """Base of the methods: called with ``(n, P)`` task gradients, gives a :class:`Combination`.

    A subclass solves for the weights. State is kept in buffers, so that checkpoints have it.
    """

    weighs_heads: ClassVar[bool] = True
    """Whether heads follow the weighted sum of losses, or the plain sum.

    The authors' code calls backward on the weighted sum wherever a method has task weights, so that
    heads are weighted as well; PCGrad and CAGrad give heads the gradient of the sum.
    """

    max_norm: float = 0.0
    """Longest gradient that the shared parameters may get together; 0 for no limit."""

    def solve(self, gram: solvers.Array) -> solvers.Array:
        """Weights ``(n,)`` from the Gram matrix ``(n, n)`` of the gradients, both in float64."""
        raise NotImplementedError(f"{type(self).__name__} has no solve")

    def kept(self) -> Tensor | None:
        """Weights ``(n,)`` of a step that needs no gradients; asked once a step, before them."""
        return None

    def forward(self, gradients: Tensor) -> Combination:
        """Combine gradients ``(n, P)``; the Gram matrix is formed in their own precision."""
        gradients = gradients.detach()
        gram: Any = (gradients @ gradients.T).double().cpu().numpy()
        found = self.solve(gram) if np.isfinite(gram).all() else np.full(len(gram), np.nan)
        weights = torch.from_numpy(found).to(gradients)
        heads = weights if self.weighs_heads else torch.ones_like(weights)
        return Combination(weights @ gradients, weights, heads)


class MGDA(GradientMethod):
    """Weights of the shortest convex combination, times ``n``; gradients are not normalised.

    The authors' solver moves only within [0.001, 0.999] along an edge and stops after 250 steps;
    the minimiser here is exact.
    """

    def solve(self, gram: solvers.Array) -> solvers.Array:
        """Weights of sum ``n``, not negative."""
        return len(gram) * solvers.min_norm(gram)


class PCGrad(GradientMethod):
    """Sum of the gradients, each projected off those that it conflicts with, in random order.

    As in the authors' code a gradient meets itself among the others.

    Args:
        seed: of the order, which depends on the step's number besides.
    """

    weighs_heads = False

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.step: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def solve(self, gram: solvers.Array) -> solvers.Array:
        """Weights of sum ``n`` or more; draws the step's order."""
        n = len(gram)
        draw = torch.Generator().manual_seed(derive_seed(self.seed, "pcgrad", int(self.step)))
        self.step += 1
        order = torch.stack([torch.randperm(n, generator=draw) for _ in range(n)])
        return solvers.pcgrad(gram, order.numpy())


class CAGrad(GradientMethod):
    """The direction near the mean gradient that serves the worst task best, times ``n``.

    Args:
        c: how far from the mean gradient, in units of its norm; 0 is the plain sum.
    """

    weighs_heads = False

    def __init__(self, *, c: Annotated[float, Field(ge=0, lt=1)] = 0.4) -> None:
        super().__init__()
        self.c = c

    def solve(self, gram: solvers.Array) -> solvers.Array:
        """Weights, not negative."""
        return len(gram) * solvers.cagrad(gram, self.c)


class IMTLG(GradientMethod):
    """Equal projections on all task gradients; weights of sum 1, which may be negative."""

    def solve(self, gram: solvers.Array) -> solvers.Array:
        """Weights of sum 1."""
        return solvers.imtl_g(gram)


class NashMTL(GradientMethod):
    """The Nash bargaining solution, ``alpha_i <g_i, sum_j alpha_j g_j> = 1``.

    The authors approach it by a sequence of convex problems, at most 20 a step; Newton's method has
    it exactly. Where there is no solution the last weights stay, ones at first, as theirs do where
    their solver fails. By the equation the direction's norm is ``sqrt(n)``: a ``max_norm`` of 1
    clips every solution. Heads get the weighted loss, unclipped.

    Args:
        update_every: steps between two solutions; those between keep the weights and cost one
            backward pass.
        max_norm: of the shared parameters' gradient; 0 for no limit.
        n_iter: at most so many Newton steps; most problems take 5 to 10.
    """

    def __init__(
        self,
        *,
        update_every: Annotated[int, Field(ge=1)] = 1,
        max_norm: Annotated[float, Field(ge=0)] = 1.0,
        n_iter: Annotated[int, Field(ge=1)] = 50,
    ) -> None:
        super().__init__()
        self.update_every, self.max_norm, self.n_iter = update_every, max_norm, n_iter
        self.step: Tensor
        self.alpha: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("alpha", torch.zeros(0, dtype=torch.float64))  # empty before the first
        self.register_load_state_dict_pre_hook(_sized)

    def solve(self, gram: solvers.Array) -> solvers.Array:
        """The bargaining weights, positive, or the last ones."""
        found = solvers.nash(gram, self.n_iter)
        if found is None:
            found = self.alpha.cpu().double().numpy() if len(self.alpha) else np.ones(len(gram))
        self.alpha = torch.from_numpy(found.copy()).to(self.alpha)
        return found

    def kept(self) -> Tensor | None:
        """The last weights between updates; counts the step."""
        due = int(self.step) % self.update_every == 0 or not len(self.alpha)
        self.step += 1
        return None if due else self.alpha


def _sized(module: NashMTL, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give the weights the length of those about to be loaded: they know no number of tasks."""
    saved = state.get(f"{prefix}alpha")
    if saved is not None:
        module.alpha = module.alpha.new_zeros(saved.shape)
