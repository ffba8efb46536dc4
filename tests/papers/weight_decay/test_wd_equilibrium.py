"""What decay does to weights whose scale does not matter: the forms behind the paper's claims."""

from __future__ import annotations

import math

import pytest
import torch

from retable.papers.weight_decay.sphere import norm, project


def test_the_projection_scales_all_weights_by_one_number():
    weights = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert float(norm(weights)) == 5
    project(weights, 2.0)
    assert weights[0].tolist() == pytest.approx([1.2, 0])
    assert weights[1].tolist() == [[pytest.approx(1.6)]]


def orthogonal(w, size, generator):
    """A random gradient orthogonal to w, of this norm."""
    g = torch.randn(len(w), generator=generator, dtype=w.dtype)
    g -= (g @ w) / (w @ w) * w
    return g * (size / g.norm())


def test_the_norm_at_equilibrium_and_the_angle_of_a_step():
    """||w||^4 -> eta G^2 / (2 lambda) for gradients of norm G / ||w||; a step turns w by
    sqrt(2 eta lambda)."""
    eta, decay, size = 0.1, 0.05, 3.0
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(50, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(w)
    optimizer = torch.optim.SGD([parameter], lr=eta, weight_decay=decay)
    fourth, angles = [], []
    for step in range(3000):
        before = parameter.detach().clone()
        parameter.grad = orthogonal(before, size / float(before.norm()), generator)
        optimizer.step()
        if step >= 1000:
            after = parameter.detach()
            fourth.append(float(after.norm()) ** 4)
            cosine = float(before @ after / (before.norm() * after.norm()))
            angles.append(math.acos(min(1.0, cosine)))
    wanted = eta * size**2 / (2 * decay)
    assert sum(fourth) / len(fourth) == pytest.approx(wanted, rel=0.02)
    assert sum(angles) / len(angles) == pytest.approx(math.sqrt(2 * eta * decay), rel=0.02)
