"""Policies on small hypergrids, and the network written down densely."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from retable.papers.subtb.hypergrid import HyperGrid
from retable.papers.subtb.networks import MLP, Table
from retable.papers.subtb.rollout import GridPolicy, visits
from retable.papers.subtb.trajectories import Trajectories


def policy(d=2, h=5, seed=0, learned_pb=True, widths=(16, 8), table=False, dtype=torch.float64):
    torch.manual_seed(seed)
    grid = HyperGrid(d, h, 1e-2)
    n = 2 * d + 2
    network = Table(grid.size, n) if table else MLP(d, h, list(widths), n)
    made = GridPolicy(grid, network, learned_pb=learned_pb).to(dtype)
    if table:
        torch.nn.init.normal_(network.weight)
    return made


def dense(network, coordinates):
    """The same perceptron, on one-hot vectors."""
    h = F.one_hot(coordinates, network.height).flatten(1).to(network.weights[0].dtype)
    for weight, bias in zip(network.weights[:-1], network.biases[:-1], strict=True):
        h = F.leaky_relu(h @ weight + bias, network.slope)
    return h @ network.weights[-1] + network.biases[-1]


def visited_of(grid, actions):
    """Flat form of trajectories given as lists of actions, through the padded one."""
    n, steps = len(actions), max(map(len, actions))
    states = torch.zeros(n, steps, dtype=torch.long)
    taken = torch.zeros(n, steps, dtype=torch.long)
    for b, path in enumerate(actions):
        cell = 0
        for t, action in enumerate(path):
            states[b, t], taken[b, t] = cell, action
            cell += int(grid.moves[action])
        taken[b, len(path) :] = 99
    lengths = torch.tensor([len(path) for path in actions])
    objects = states.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
    padded = Trajectories(states, taken, lengths, objects, grid.log_reward[objects])
    return visits(padded, grid)
