"""Sampling and evaluation on the hypergrid by the compiled functions, as tensors see them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from retable.papers.subtb.hypergrid import HyperGrid
from retable.papers.subtb.networks import MLP
from retable.papers.subtb.visited import Visited

try:
    from retable.papers.subtb import compiled
except ImportError as error:
    raise ImportError(
        "subtb: the hypergrid on the CPU needs numba; install the extra: retable[subtb]"
    ) from error


def walk(grid: HyperGrid, network: MLP, noise: Tensor, scale: Tensor) -> Visited:
    """Trajectories, and the network's activations along them.

    Args:
        grid: the environment.
        network: of ``2 D + 2`` outputs.
        noise: ``(max steps, B, D + 1)``.
        scale: ``(max steps, B)``, of the logits.
    """
    steps, n, n_actions = noise.shape
    weights = [w.detach() for w in network.weights]
    biases = [b.detach() for b in network.biases]
    hidden = [w.new_empty(steps * n, w.shape[1]) for w in weights[:-1]]
    flat = torch.empty(5, steps * n, dtype=torch.int64)
    count = compiled.walk(
        tuple(w.numpy() for w in weights[:-1]),
        tuple(b.numpy() for b in biases[:-1]),
        weights[-1][:, :n_actions].contiguous().numpy(),
        biases[-1][:n_actions].numpy(),
        weights[0].new_tensor(network.slope).numpy()[()],
        noise.numpy(),
        scale.numpy(),
        grid.coordinates.numpy(),
        grid.moves.numpy(),
        tuple(h.numpy() for h in hidden),
        flat.numpy(),
    )
    cells, owner, time, action, last = flat[:, :count]
    return Visited(cells, owner, time, action, last, n, [h[:count] for h in hidden])


def along(
    out: Tensor, visited: Visited, grid: HyperGrid, log_reward: Tensor, *, learned_pb: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Padded log P_F, log P_B and log F of the trajectories, with gradients.

    Args:
        out: ``(N, 2 D + 2)``, per visited state.
        visited: the trajectories.
        grid: the environment.
        log_reward: ``(B,)``.
        learned_pb: P_B from ``out``, else uniform.
    """
    found: Any = _Along.apply(out, visited, grid, log_reward, learned_pb)
    return cast("tuple[Tensor, Tensor, Tensor]", found)


class _Along(Function):
    """From outputs per visited state to trajectories."""

    @staticmethod
    def forward(
        ctx: Any,
        out: Tensor,
        visited: Visited,
        grid: HyperGrid,
        log_reward: Tensor,
        learned_pb: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, d = int(visited.time[-1]) + 1, grid.n_dims
        log_pf, log_pb = out.new_zeros(2, visited.size, steps)
        log_flow = out.new_zeros(visited.size, steps + 1)
        forward = out.new_empty(len(out), d + 1)
        backward = out.new_empty(len(out), d)
        parts = visited.cells, visited.owner, visited.time, visited.action, visited.last
        path = torch.stack(parts).numpy()
        compiled.along(
            out.detach().numpy(),
            grid.coordinates.numpy(),
            grid.height,
            path,
            log_reward.to(out.dtype).numpy(),
            learned_pb,
            log_pf.numpy(),
            log_pb.numpy(),
            log_flow.numpy(),
            forward.numpy(),
            backward.numpy(),
        )
        ctx.kept = forward, backward, path, out.shape, learned_pb
        return log_pf, log_pb, log_flow

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return _along_backward(ctx, *grad_outputs)


@once_differentiable
def _along_backward(ctx: Any, log_pf: Tensor, log_pb: Tensor, log_flow: Tensor) -> Any:
    forward, backward, path, shape, learned_pb = ctx.kept
    grad = forward.new_zeros(shape)
    compiled.along_backward(
        forward.numpy(),
        backward.numpy(),
        path,
        learned_pb,
        log_pf.contiguous().numpy(),
        log_pb.contiguous().numpy(),
        log_flow.contiguous().numpy(),
        grad.numpy(),
    )
    return grad, None, None, None, None
