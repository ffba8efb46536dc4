"""The network on coordinates is the dense one on concatenated one-hot vectors."""

from __future__ import annotations

import pytest
import torch

from support.subtb import dense, policy


@pytest.mark.parametrize("widths", [(7,), (16, 8), (5, 6, 7)])
def test_network_is_the_dense_one_with_its_gradient(widths):
    made = policy(d=3, h=4, widths=widths)
    network, cells = made.network, torch.tensor([0, 5, 63, 5, 17])
    coordinates = made.grid.coordinates[cells]
    found = network.outputs(cells, coordinates, network.hidden(coordinates))
    expected = dense(network, coordinates)
    torch.testing.assert_close(found, expected)
    weigh = torch.randn_like(expected)
    grads = [
        torch.autograd.grad((weigh * x).sum(), list(network.parameters()), retain_graph=True)
        for x in (found, expected)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
