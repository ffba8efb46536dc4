"""The network for molecules: messages between all atoms, attention over them, a head per task.

Gilmer et al.: Neural Message Passing for Quantum Chemistry (ICML 2017), as torch_geometric's
example for QM9 has it, in dense padded tensors.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from retable.papers.igb.networks import MultiHead

NODE_FEATURES = 11
EDGE_FEATURES = 5


class EdgeConv(nn.Module):
    """Messages through matrices that a small network gives each pair of atoms (NNConv).

    ``m_i = W h_i + b + mean_{j != i} A(e_ij)^T h_j`` with ``A`` linear in the ReLU layer
    ``u(e) (edge_width,)``. The sum over ``j`` is taken before ``A``: ``sum_j u_k(e_ij) h_j`` for
    every ``k``, so that no matrix of a pair is ever made.

    Args:
        width: of an atom's state.
        edge_width: of the hidden layer.
    """

    def __init__(self, width: int, edge_width: int) -> None:
        super().__init__()
        self.width = width
        self.hidden = nn.Linear(EDGE_FEATURES, edge_width)
        self.matrix = nn.Linear(edge_width, width * width)
        self.root = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def pairs(self, edges: Tensor, real: Tensor) -> Tensor:
        """What every step needs of the pairs ``(B, n, n, 5)``, the same in all.

        Args:
            edges: features of ``e_ij``.
            real: ``(B, n)``, False where there is no atom.

        Returns:
            ``u`` and a last 1, over the number of neighbours, ``(B, n, edge_width + 1, n)`` by
            atom, unit and neighbour; 0 where there is no pair.
        """
        n = real.shape[1]
        other = ~torch.eye(n, dtype=torch.bool, device=real.device)
        pair = real[:, :, None] & real[:, None] & other
        weight = pair / pair.sum(2, keepdim=True).clamp(min=1)
        u = torch.relu(self.hidden(edges))
        u = torch.cat([u, torch.ones_like(u[..., :1])], -1) * weight[..., None]
        return u.transpose(2, 3).contiguous()

    def forward(self, h: Tensor, pairs: Tensor) -> Tensor:
        """Messages ``(B, n, width)`` of states ``(B, n, width)``."""
        matrices = torch.cat([self.matrix.weight, self.matrix.bias[:, None]], 1)
        matrices = matrices.view(self.width, self.width, -1).permute(2, 0, 1).flatten(0, 1)
        sums = (pairs.flatten(1, 2) @ h).view(*h.shape[:2], -1)  # of units and states
        return sums @ matrices + self.root(h) + self.bias


class Set2Set(nn.Module):
    """Attention over a set by a query that an LSTM moves: Vinyals, Bengio, Kudlur (ICLR 2016).

    Args:
        width: of an item.
        steps: of the LSTM.
    """

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.lstm = nn.LSTMCell(2 * width, width)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """Query and what it reads ``(B, 2 width)`` of items ``(B, n, width)`` where ``real``."""
        query = cell = x.new_zeros(len(x), x.shape[2])
        read = query
        for _ in range(self.steps):
            query, cell = self.lstm(torch.cat([query, read], 1), (query, cell))
            scores = torch.einsum("bnd,bd->bn", x, query).masked_fill(~real, -torch.inf)
            read = torch.einsum("bn,bnd->bd", scores.softmax(1), x)
        return torch.cat([query, read], 1)


class Trunk(nn.Module):
    """Features ``(B, width)`` of molecules ``(B, n, 11 + 5 n)``.

    Args:
        width: of an atom's state and of the features.
        edge_width: of :class:`EdgeConv`.
        steps: of messages, and of :class:`Set2Set`.
    """

    def __init__(self, width: int, edge_width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.first = nn.Linear(NODE_FEATURES, width)
        self.conv = EdgeConv(width, edge_width)
        self.gru = nn.GRUCell(width, width)
        self.set2set = Set2Set(width, steps)
        self.last = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """An atom's row is its features, the elements one-hot first, and those of its pairs."""
        batch, n, _ = x.shape
        real = x[..., :5].sum(2) > 0
        h = torch.relu(self.first(x[..., :NODE_FEATURES]))
        pairs = self.conv.pairs(x[..., NODE_FEATURES:].view(batch, n, n, EDGE_FEATURES), real)
        for _ in range(self.steps):
            message = torch.relu(self.conv(h, pairs))
            h = self.gru(message.flatten(0, 1), h.flatten(0, 1)).view_as(h)
        return torch.relu(self.last(self.set2set(h, real)))


class MessagePassing(MultiHead):
    """The authors' network for QM9; heads are linear.

    Args:
        tasks: outputs by task, all 1.
        width: of an atom's state and of the features.
        edge_width: hidden units of the network of the pairs.
        steps: of messages, and of the attention.
    """

    def __init__(
        self,
        *,
        tasks: dict[str, Annotated[int, Field(ge=1)]],
        width: Annotated[int, Field(ge=1)] = 64,
        edge_width: Annotated[int, Field(ge=1)] = 128,
        steps: Annotated[int, Field(ge=1)] = 3,
    ) -> None:
        super().__init__(Trunk(width, edge_width, steps), width, tasks, ())
