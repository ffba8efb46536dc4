"""What decay does to weights whose scale does not matter: the forms behind the paper's claims."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from retable.nets.preact_resnet import PreActResNet
from retable.papers.weight_decay.sgd import CoupledSGD
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
    optimizer = CoupledSGD([parameter], rates={"large": eta}, decay=decay)
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


def scale_invariant(width, radius=None):
    """The network of the sphere with its initial weights, and those that are trained."""
    torch.manual_seed(0)
    net = PreActResNet(18, width=width, input_norm=True, scale_invariant=True, init="torch")
    trained = [p for p in net.parameters() if p.requires_grad]
    if radius is not None:
        project(trained, radius)
    return net.train(), trained


def gradient(net, trained, images, labels):
    """Loss of a batch, the gradient's norm, and its part along the weights."""
    loss = F.cross_entropy(net(images), labels)
    grads = torch.autograd.grad(loss, trained)
    return float(loss.detach()), float(norm(grads)), along(grads, trained)


def along(grads, weights):
    return sum(float((g * p.detach()).sum()) for g, p in zip(grads, weights, strict=True))


def test_the_network_of_the_sphere_does_not_depend_on_the_scale():
    """loss(c w) = loss(w), grad(c w) = grad(w) / c, and no gradient along w: to rounding without
    the eps of batch norm."""
    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 8, 8).double(), torch.arange(32) % 10
    found = {}
    for c in (1.0, 0.5, 2.0):
        net, trained = scale_invariant(4)
        project(trained, c * float(norm(trained)))
        for module in net.double().modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-30  # torch takes no 0
        trained = [p for p in net.parameters() if p.requires_grad]
        loss = F.cross_entropy(net(images), labels)
        grads = torch.autograd.grad(loss, trained)
        assert abs(along(grads, trained)) < 1e-12 * float(norm(grads) * norm(trained))
        found[c] = loss.detach(), grads
    for c in (0.5, 2.0):
        torch.testing.assert_close(found[c][0], found[1.0][0], rtol=1e-6, atol=0)
        for scaled, plain in zip(found[c][1], found[1.0][1], strict=True):
            error = (scaled * c - plain).norm() / plain.norm()
            assert float(error) < 1e-5  # the weights were scaled in single precision


def test_with_its_eps_it_hardly_does():
    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 10
    net, trained = scale_invariant(4)
    size = float(norm(trained))
    loss, length, part = gradient(net, trained, images, labels)
    assert abs(part) < 1e-3 * length * size
    for c in (0.5, 2.0):
        net, trained = scale_invariant(4, radius=c * size)
        scaled, shorter, _ = gradient(net, trained, images, labels)
        assert scaled == pytest.approx(loss, rel=1e-3)
        assert shorter == pytest.approx(length / c, rel=0.02)


def test_at_radius_1_it_depends_on_the_scale_a_little():
    """Eps is not nothing beside the variances there; without it the product would be constant."""
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    product = {}
    for radius in (0.5, 1.0, 2.0, None):
        net, trained = scale_invariant(64, radius)
        product[radius] = float(norm(trained)) * gradient(net, trained, images, labels)[1]
    assert 0.85 < product[1.0] / product[None] < 0.95
    assert product[0.5] / product[None] < 0.8
    assert product[2.0] / product[None] > 0.95


@pytest.mark.slow
def test_the_norm_of_the_network_at_equilibrium():
    """||w||^4 -> eta G^2 / (2 lambda), G = ||g|| ||w|| being the gradient on the unit sphere, where
    2 is 2 - eta lambda beyond the first order; a step turns w by sqrt(2 eta lambda)."""
    eta, decay = 0.5, 0.04
    net, trained = scale_invariant(4)
    optimizer = CoupledSGD(trained, rates={"large": eta}, decay=decay)
    draws = torch.Generator().manual_seed(0)
    sizes, lengths, cosines = [], [], []
    for step in range(800):
        images = torch.randn(16, 3, 8, 8, generator=draws)
        labels = torch.randint(10, (16,), generator=draws)
        before = [p.detach().clone() for p in trained]
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        length = float(norm([p.grad for p in trained]))
        optimizer.step()
        if step >= 200:
            sizes.append(float(norm(before)))
            lengths.append(length)
            inner = along(before, trained)
            cosines.append(inner / (sizes[-1] * float(norm(trained))))
    size, length = torch.tensor(sizes), torch.tensor(lengths)
    grown, shrunk = eta * length**2, (2 - eta * decay) * decay * size**2
    assert float(grown.mean()) == pytest.approx(float(shrunk.mean()), rel=0.03)
    wanted = eta * (length * size).square().mean() / ((2 - eta * decay) * decay)
    assert float((size**4).mean()) == pytest.approx(float(wanted), rel=0.05)
    squares = [math.acos(min(1.0, c)) ** 2 for c in cosines]
    angle = math.sqrt(sum(squares) / len(squares))  # its gradients, unlike those above, vary
    assert angle == pytest.approx(math.sqrt(2 * eta * decay), rel=0.1)
