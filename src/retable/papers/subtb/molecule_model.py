"""A message-passing network on trees of fragments, sampling, and evaluation of trajectories."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retable.papers.subtb.molecules import OWN_PORT, PARENT, PARENT_PORT, TYPE, MoleculeSpace
from retable.papers.subtb.sequences import MASKED
from retable.papers.subtb.trajectories import Evaluation, Trajectories, end_with_reward


class MoleculeModel(nn.Module):
    """Logits and log F of states; both depend on the molecule alone, not on the order of rows.

    Messages run along joins in both directions and know both ports; a recurrent cell takes them
    up. Each port has the logits of the entries joined there, the whole molecule the stop's logit
    and log F.

    Args:
        space: the space.
        width: of the features.
        rounds: of messages.
        flow_init: log F of all states at the start.
    """

    def __init__(
        self, space: MoleculeSpace, *, width: int = 64, rounds: int = 4, flow_init: float = 0.0
    ) -> None:
        super().__init__()
        self.space, self.rounds = space, rounds
        self.kinds = nn.Embedding(len(space.fragments.ports), width)
        self.ports = nn.Embedding(space.max_ports, width)
        self.message = nn.Sequential(nn.Linear(3 * width, width), nn.LeakyReLU())
        self.cell = nn.GRUCell(width, width)
        self.join = _mlp(2 * width, width, space.entries)
        self.first = nn.Parameter(torch.zeros(space.entries))
        self.whole = _mlp(width, width, 2)
        with torch.no_grad():
            last = self.whole[-1]
            assert isinstance(last, nn.Linear)
            last.bias[1] += flow_init

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(S, actions)``, not masked, and log F ``(S,)`` of states ``(S, blocks, 4)``."""
        size, blocks, _ = states.shape
        there = (states[..., TYPE] >= 0)[..., None]
        parents = F.one_hot(states[..., PARENT] + 1, blocks + 1)[..., 1:].to(self.first.dtype)
        own = self.ports(states[..., OWN_PORT].clamp_min(0))
        at_parent = self.ports(states[..., PARENT_PORT].clamp_min(0))
        child = (states[..., PARENT] >= 0)[..., None]
        h = torch.where(there, self.kinds(states[..., TYPE].clamp_min(0)), 0.0)
        for _ in range(self.rounds):
            down = self.message(torch.cat([parents @ h, at_parent, own], -1))
            up = self.message(torch.cat([h, own, at_parent], -1))
            taken = torch.where(child, down, 0.0)
            taken = taken + parents.transpose(1, 2) @ torch.where(child, up, 0.0)
            h = self.cell(taken.flatten(0, 1), h.flatten(0, 1)).view_as(h)
            h = torch.where(there, h, 0.0)
        ports = self.ports.weight.expand(size, blocks, -1, -1)
        nodes = h[:, :, None].expand_as(ports)
        joining = self.join(torch.cat([nodes, ports], -1))
        empty = ~there[:, 0]
        at_start = torch.where(empty, self.first, joining[:, 0, 0])
        start = torch.zeros(blocks, joining.shape[2], 1, dtype=torch.bool, device=h.device)
        start[0, 0] = True
        joining = torch.where(start, at_start[:, None, None], joining)
        stop, log_flow = self.whole(h.sum(1)).unbind(1)
        return torch.cat([joining.flatten(1), stop[:, None]], 1), log_flow

    def log_policy(self, states: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log P_F of all actions ``(S, actions)`` and log F ``(S,)``."""
        logits, log_flow = self(states)
        valid = self.space.valid(states) if valid is None else valid
        return logits.masked_fill(~valid, MASKED).log_softmax(1), log_flow


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(), nn.Linear(hidden, outputs))


@torch.no_grad()
def sample(
    model: MoleculeModel, batch: int, *, random_action: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw trajectories from (1 - eps) P_F + eps uniform over the actions that there are.

    Returns:
        States ``(B, T, blocks, 4)`` that actions were taken in, actions ``(B, T)``, transitions
        ``(B,)``, and the molecules ``(B, blocks, 4)``.
    """
    space, device = model.space, model.first.device
    state = space.empty(batch).to(device)
    running = torch.ones(batch, dtype=torch.bool, device=device)
    lengths = torch.zeros(batch, dtype=torch.long, device=device)
    states: list[Tensor] = []
    actions: list[Tensor] = []
    for _ in range(space.steps):
        valid = space.valid(state)
        # A finished molecule has no action: the stop, which changes nothing, fills in.
        valid[:, space.stop] |= ~running
        log_pf, _ = model.log_policy(state, valid)
        if random_action > 0:
            explores = torch.rand(batch, 1, device=device) < random_action
            log_pf = torch.where(explores & valid, 0.0, log_pf)
        action = (log_pf - torch.empty_like(log_pf).exponential_().log()).argmax(1)
        action = torch.where(running, action, space.stop)
        states.append(state)
        actions.append(action)
        lengths += running
        state = space.step(state, action)
        running = running & (action != space.stop) & ~space.ended(state)
    return torch.stack(states, 1), torch.stack(actions, 1), lengths, state


def evaluate(model: MoleculeModel, batch: Trajectories, log_z: Tensor | None = None) -> Evaluation:
    """All states of a batch in one pass; P_B is uniform over leaves, 1 for a stop.

    Args:
        model: the network.
        batch: trajectories of :func:`sample`.
        log_z: parameter of trajectory balance.
    """
    space = model.space
    flat = batch.states.flatten(0, 1)
    actions = batch.actions.flatten()
    valid = space.valid(flat)
    valid[:, space.stop] |= ~batch.mask.flatten()
    log_policy, log_flow = model.log_policy(flat, valid)
    log_pf = log_policy.gather(1, actions[:, None]).view_as(batch.actions)
    # Read at the child: leaves of the molecule that the action has made.
    leaves = space.leaves(space.step(flat, actions)).clamp_min(1)
    log_pb = torch.where(actions == space.stop, 0.0, -leaves.to(log_pf.dtype).log())
    log_flow = F.pad(log_flow.view_as(batch.actions), (0, 1))
    return Evaluation(
        log_flow=end_with_reward(log_flow, batch.log_reward, batch.lengths),
        log_pf=torch.where(batch.mask, log_pf, 0.0),
        log_pb=torch.where(batch.mask, log_pb.view_as(log_pf), 0.0),
        log_reward=batch.log_reward,
        lengths=batch.lengths,
        log_z=log_z,
    )
