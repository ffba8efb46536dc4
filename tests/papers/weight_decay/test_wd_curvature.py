"""Trace of the Hessian and norm of the Jacobian against closed forms and plain autograd."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.papers.weight_decay.curvature import (
    hessian_trace,
    jacobian_squares,
    jacobian_squares_estimated,
)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


class Quadratic(nn.Module):
    """Its output is w' A w / 2 whatever it is given, so that the Hessian of the output is A."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix
        self.w = nn.Parameter(torch.randn(len(matrix), generator=draws(1), dtype=matrix.dtype))

    def forward(self, x):
        return (self.w @ self.matrix @ self.w / 2).expand(len(x))


def trace(net, x, y=None, *, loss=lambda out, _: out.mean(), **options):
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    return hessian_trace(net, x, y, draws(), loss=loss, **options)


def test_a_quadratic_loss_has_the_trace_of_its_matrix():
    """Within 1 %: the variance of one probe is 2 sum of A_ij^2 over i != j, here 3.6."""
    matrix = torch.diag(torch.arange(1.0, 6.0, dtype=torch.float64)) + 0.3
    found = trace(Quadratic(matrix), torch.zeros(1, 1), probes=2000)
    assert found == pytest.approx(16.5, rel=0.01)


def test_a_diagonal_hessian_takes_one_probe():
    matrix = torch.diag(torch.tensor([1.0, -2.0, 30.0], dtype=torch.float64))
    assert trace(Quadratic(matrix), torch.zeros(1, 1), probes=1) == pytest.approx(29, abs=1e-12)


def test_batches_are_weighed_by_their_images_and_not_summed():
    """The mean over seven images, in batches of three: the last one has a single image."""

    class PerImage(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x):
            return x * self.w**2 / 2

    x = torch.arange(7, dtype=torch.float64)
    assert trace(PerImage(), x, batch_size=3, probes=1) == pytest.approx(3.0, abs=1e-12)


def test_cross_entropy_of_a_linear_network():
    """Tr H = mean over images of |x|^2 sum_c p_c (1 - p_c), which autograd's Hessian has too."""
    net = nn.Linear(3, 4, bias=False).double()
    x = torch.randn(6, 3, generator=draws(3), dtype=torch.float64)
    y = torch.arange(6) % 4
    p = net(x).detach().softmax(1)
    wanted = float((x.square().sum(1) * (p * (1 - p)).sum(1)).mean())
    full = torch.autograd.functional.hessian(
        lambda w: F.cross_entropy(x @ w.view(4, 3).T, y), net.weight.detach().flatten()
    )
    assert wanted == pytest.approx(float(full.trace()), rel=1e-9)
    found = trace(net, x, y, loss=F.cross_entropy, probes=1000)
    assert found == pytest.approx(wanted, rel=0.05)


def test_the_mean_over_all_signs_is_the_trace(monkeypatch):
    """Without chance: v' H v averaged over all 2^4 vectors of signs."""
    root = torch.randn(4, 4, generator=draws(4), dtype=torch.float64)
    signs = itertools.product((-1.0, 1.0), repeat=4)
    monkeypatch.setattr(
        "retable.papers.weight_decay.curvature._signs",
        lambda like, _: torch.tensor(next(signs), dtype=like.dtype),
    )
    found = trace(Quadratic(root + root.T), torch.zeros(1, 1), probes=16)
    assert found == pytest.approx(float(2 * root.trace()), rel=1e-12)


def test_the_jacobian_of_a_linear_network_is_of_its_logits():
    """||J||^2 = C |x|^2 exactly, whatever the labels; of the loss it would be another number."""
    net = nn.Linear(5, 3, bias=False).double()
    x = torch.randn(4, 5, generator=draws(5), dtype=torch.float64)
    assert torch.allclose(jacobian_squares(net, x, chunk=3), 3 * x.square().sum(1), rtol=1e-12)


def network():
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    )
    net[1].running_mean.copy_(torch.tensor([0.1, -0.2, 0.0]))
    return net.double().eval()


IMAGES = torch.randn(3, 1, 4, 4, generator=draws(6), dtype=torch.float64)


def test_the_jacobian_of_a_network_is_that_of_a_loop_over_logits():
    net = network()
    weights = list(net.parameters())
    for image, found in zip(IMAGES, jacobian_squares(net, IMAGES), strict=True):
        rows = [torch.autograd.grad(net(image[None])[0, c], weights) for c in range(4)]
        wanted = sum(g.square().sum() for row in rows for g in row)
        assert float(found) == pytest.approx(float(wanted), rel=1e-10)


def test_the_estimate_is_unbiased():
    """Mean of 2,000 estimates of one image each, a probe being one backward pass."""
    net = network()
    copies = IMAGES.repeat_interleave(2000, 0)
    found = jacobian_squares_estimated(net, copies, draws(7), chunk=1000).view(3, -1).mean(1)
    assert torch.allclose(found, jacobian_squares(net, IMAGES), rtol=0.08)


def test_weights_that_are_not_trained_do_not_count():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    net[1].requires_grad_(False)
    net[1].weight.data = torch.eye(2, dtype=torch.float64)
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert float(jacobian_squares(net, x)) == pytest.approx(10.0)
    # Of cross-entropy by the first layer alone: sum_c p_c (1 - p_c) ||x||^2.
    p = net(x).softmax(1).detach()
    label = torch.zeros(1, dtype=torch.int64)
    found = trace(net, x, label, loss=F.cross_entropy, probes=4000)
    assert found == pytest.approx(float((p * (1 - p)).sum()) * 5, rel=0.08)
