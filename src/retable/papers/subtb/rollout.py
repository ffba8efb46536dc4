"""Sampling on the hypergrid, and what a network says of trajectories.

States are kept flat, one row per visited state in order of time, with no padding: a batch's
trajectories differ in length by factors, and padding would be computed like anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from retable.papers.subtb.hypergrid import HyperGrid
from retable.papers.subtb.networks import MLP, Table
from retable.papers.subtb.trajectories import Evaluation, Trajectories
from retable.papers.subtb.visited import Visited


class GridPolicy(nn.Module):
    """P_F, P_B and log F on the hypergrid.

    Args:
        grid: the environment.
        network: of ``2 D + 2`` outputs.
        learned_pb: P_B from the network, else uniform over a cell's parents.
    """

    def __init__(self, grid: HyperGrid, network: MLP | Table, *, learned_pb: bool = True) -> None:
        super().__init__()
        self.grid, self.network, self.learned_pb = grid, network, learned_pb

    @torch.no_grad()
    def sample(self, n: int, *, epsilon: float = 0.0, temperature: float = 1.0) -> Visited:
        """Trajectories of ``(1 - epsilon) P_F + epsilon uniform``, from torch's global generator.

        Args:
            n: trajectories.
            epsilon: probability, at each step, of a uniform choice among the actions that exist.
            temperature: logits are divided by it.
        """
        grid, network = self.grid, self.network
        noise = _gumbel(grid.max_steps, n, grid.n_actions, grid.moves.device)
        # Logits times 0 are those of the uniform distribution.
        scale = noise.new_full(noise.shape[:2], 1 / temperature)
        if epsilon > 0:
            scale[torch.rand_like(scale) < epsilon] = 0.0
        if isinstance(network, Table):
            return self._look_up(network, noise, scale)
        if noise.device.type == "cpu":
            # Imported here: numba takes its time to load.
            from retable.papers.subtb import rollout_cpu

            return rollout_cpu.walk(grid, network, noise, scale)
        return self._walk(network, noise, scale)

    def _look_up(self, table: Table, noise: Tensor, scale: Tensor) -> Visited:
        """Sampling from a table of the logits of all cells."""
        grid, stop, n = self.grid, self.grid.n_dims, noise.shape[1]
        logits = table.weight[:, : stop + 1]
        # A trajectory that has ended stays in the last cell, where only the stop is left.
        cell = grid.moves.new_zeros(n)
        passed: list[Tensor] = []
        taken: list[Tensor] = []
        running = torch.ones(n, dtype=torch.bool, device=noise.device)
        alive: list[Tensor] = []
        for step in range(grid.max_steps):
            here = logits[cell] * scale[step].unsqueeze(1) + grid.forward_mask[cell]
            action = here.add_(noise[step]).argmax(1)
            passed.append(cell)
            taken.append(action)
            alive.append(running)
            running = running & (action != stop)
            if not running.any():
                break
            cell = cell + grid.moves[action]
        visited = torch.stack(alive).nonzero()
        time, owner = visited.unbind(1)
        actions = torch.stack(taken)
        last = torch.cat([actions.new_full((1, n), stop), actions[:-1]])[time, owner]
        cells = torch.stack(passed)[time, owner]
        return Visited(cells, owner, time, actions[time, owner], last, n)

    def _walk(self, network: MLP, noise: Tensor, scale: Tensor) -> Visited:
        """Sampling step by step, the network on the running trajectories alone."""
        grid, stop, n = self.grid, self.grid.n_dims, noise.shape[1]
        # The bias goes into the rows of the first coordinate: one of them is in every sum.
        weights, biases = list(network.weights), list(network.biases)
        first = weights[0].clone()
        first[: network.height] += biases[0]
        inner = list(zip(weights[1:-1], biases[1:-1], strict=True))
        head, head_bias = weights[-1][:, : stop + 1].contiguous(), biases[-1][: stop + 1]
        offsets = torch.arange(0, n * grid.n_dims, grid.n_dims, device=noise.device)
        rows = network.rows(grid.coordinates)
        cell = grid.moves.new_zeros(n)
        owner = torch.arange(n, device=noise.device)
        last = torch.full_like(owner, stop)
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        hidden: list[list[Tensor]] = [[] for _ in range(len(inner) + 1)]
        count = n
        for step, added in enumerate(noise.unbind()):
            if count < n:
                added = added[:count]
            first_rows = rows.index_select(0, cell).view(-1)
            h = torch.embedding_bag(first, first_rows, offsets[:count])[0]
            hidden[0].append(F.leaky_relu_(h, network.slope))
            for i, (weight, bias) in enumerate(inner, start=1):
                h = F.leaky_relu_(torch.addmm(bias, h, weight), network.slope)
                hidden[i].append(h)
            logits = torch.addmm(head_bias, h, head)
            logits *= scale[step, :count].unsqueeze(1)
            action = logits.add_(grid.forward_mask.index_select(0, cell)).add_(added).argmax(1)
            parts.append((cell, owner, action, last))
            cell = cell + grid.moves.index_select(0, action)
            last = action
            if stop in action.tolist():
                goes_on = (action != stop).nonzero().view(-1)
                count = len(goes_on)
                if count == 0:
                    break
                cell, owner, last = (x.index_select(0, goes_on) for x in (cell, owner, action))
        counts = torch.tensor([len(part[0]) for part in parts], device=noise.device)
        time = torch.arange(len(parts), device=noise.device).repeat_interleave(counts)
        cells, owners, actions, lasts = (torch.cat(x) for x in zip(*parts, strict=True))
        kept = [torch.cat(h) for h in hidden]
        return Visited(cells, owners, time, actions, lasts, n, kept)

    def evaluate(self, visited: Visited, log_z: Tensor | None = None) -> Evaluation:
        """Log probabilities and flows along the trajectories, with gradients.

        Args:
            visited: from :meth:`sample` with the present weights, or :func:`visits`.
            log_z: parameter of trajectory balance.
        """
        grid, cells = self.grid, visited.cells
        coordinates = grid.coordinates[cells]
        hidden: Sequence[Tensor] = visited.hidden or self.network.hidden(coordinates)
        out = self.network.outputs(cells, coordinates, hidden)
        lengths = visited.lengths
        log_reward = grid.log_reward[visited.objects(grid.n_dims)]
        if out.device.type == "cpu":
            from retable.papers.subtb import rollout_cpu

            log_pf, log_pb, log_flow = rollout_cpu.along(
                out, visited, grid, log_reward, learned_pb=self.learned_pb
            )
        else:
            log_pf, log_pb, log_flow = cast(
                "tuple[Tensor, Tensor, Tensor]",
                _Along.apply(out, visited, grid, self.learned_pb, lengths, log_reward),
            )
        return Evaluation(
            log_flow=log_flow,
            log_pf=log_pf,
            log_pb=log_pb,
            log_reward=log_reward,
            lengths=lengths,
            log_z=log_z,
        )

    @torch.no_grad()
    def probabilities(self, chunk: int = 16384) -> Tensor:
        """P_F of every cell, ``(S, D + 1)``, float64."""
        found: list[Tensor] = []
        for cells in torch.arange(self.grid.size, device=self.grid.moves.device).split(chunk):
            coordinates = self.grid.coordinates[cells]
            out = self.network.outputs(cells, coordinates, self.network.hidden(coordinates))
            logits = out[:, : self.grid.n_actions] + self.grid.forward_mask[cells]
            found.append(logits.double().softmax(1))
        return torch.cat(found)

    @torch.no_grad()
    def log_flow_at_start(self) -> float:
        """Log F(s_0), which plays the part of log Z."""
        start = self.grid.moves.new_zeros(1)
        coordinates = self.grid.coordinates[start]
        out = self.network.outputs(start, coordinates, self.network.hidden(coordinates))
        return float(out[0, -1])


def trajectories(visited: Visited, grid: HyperGrid) -> Trajectories:
    """The same batch, padded; states are cells."""
    steps = int(visited.time[-1]) + 1
    at = visited.owner * steps + visited.time
    shape = visited.size, steps
    objects = visited.objects(grid.n_dims)
    return Trajectories(
        states=_padded(visited.cells, at, shape),
        actions=_padded(visited.action, at, shape),
        lengths=visited.lengths,
        objects=objects,
        log_reward=grid.log_reward[objects],
    )


def visits(batch: Trajectories, grid: HyperGrid) -> Visited:
    """The flat form of a padded batch."""
    time, owner = batch.mask.T.nonzero().unbind(1)
    actions = batch.actions
    stop = actions.new_full((batch.size, 1), grid.n_dims)
    before = torch.cat([stop, actions[:, :-1]], 1)
    return Visited(
        cells=batch.states[owner, time],
        owner=owner,
        time=time,
        action=actions[owner, time],
        last=before[owner, time],
        size=batch.size,
    )


def _padded(values: Tensor, at: Tensor, shape: tuple[int, int]) -> Tensor:
    flat = values.new_zeros(shape[0] * shape[1])
    return flat.scatter(0, at, values).view(shape)


class _Along(Function):
    """From outputs per visited state to padded log P_F, log P_B and log F of the trajectories."""

    @staticmethod
    def forward(
        ctx: Any,
        out: Tensor,
        visited: Visited,
        grid: HyperGrid,
        learned_pb: bool,
        lengths: Tensor,
        log_reward: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        d, n, cells = grid.n_dims, visited.size, visited.cells
        forward = (out[:, : d + 1] + grid.forward_mask[cells]).log_softmax(1)
        backward = grid.backward_mask[cells[n:]]
        if learned_pb:
            backward = backward + out[n:, d + 1 : 2 * d + 1]
        backward = backward.log_softmax(1)
        action, last = visited.action.unsqueeze(1), visited.last[n:].unsqueeze(1)
        steps = int(visited.time[-1]) + 1
        at = visited.owner * (steps + 1) + visited.time
        found = out.new_zeros(3, n * (steps + 1))
        found[0].scatter_(0, at, forward.gather(1, action).squeeze(1))
        # Read at the child, for the transition before; that of the stop stays 0.
        found[1].scatter_(0, at[n:] - 1, backward.gather(1, last).squeeze(1))
        found[2].scatter_(0, at, out[:, -1])
        found = found.view(3, n, steps + 1)
        found[2].scatter_(1, lengths.unsqueeze(1), log_reward.to(out.dtype).unsqueeze(1))
        ctx.save_for_backward(forward, backward, action, last, at)
        ctx.shape, ctx.learned_pb = out.shape, learned_pb
        return found[0, :, :steps], found[1, :, :steps], found[2]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return _along_backward(ctx, *grad_outputs)


@once_differentiable
def _along_backward(ctx: Any, log_pf: Tensor, log_pb: Tensor, log_flow: Tensor) -> Any:
    forward, backward, action, last, at = cast("list[Tensor]", ctx.saved_tensors)
    n, d = len(log_flow), backward.shape[1]
    grad = log_flow.new_zeros(ctx.shape)
    # What stands at a trajectory's end is log R: no state is acted in there, so none is read.
    grad[:, -1] = log_flow.reshape(-1)[at]
    grad[:, : d + 1] = _of_softmax(forward, action, F.pad(log_pf, (0, 1)).view(-1)[at])
    if ctx.learned_pb:
        to_pb = F.pad(log_pb, (0, 1)).view(-1)[at[n:] - 1]
        grad[n:, d + 1 : 2 * d + 1] = _of_softmax(backward, last, to_pb)
    return grad, None, None, None, None, None


def _of_softmax(log_p: Tensor, taken: Tensor, grad: Tensor) -> Tensor:
    """Gradient of the taken entries' log softmax with respect to the logits."""
    grad = grad.unsqueeze(1)
    return (log_p.exp() * -grad).scatter_add_(1, taken, grad)


def _gumbel(steps: int, n: int, actions: int, device: torch.device) -> Tensor:
    """Noise whose addition to logits makes the largest one a sample."""
    return torch.empty(steps, n, actions, device=device).exponential_().log_().neg_()
