"""The homeostatic loss: unbiased, with the gradient of its expectation, the state held."""

from __future__ import annotations

import pytest
import torch

from retable.papers.equilibrium_prop.activations import activate
from retable.papers.equilibrium_prop.alignment import Alignment
from retable.papers.equilibrium_prop.homeostasis import cosines, expected, homeostatic
from support.equilibrium import bound, images, settled, small


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["mlp", "loop"])
def test_value_and_gradient_of_many_draws(kind):
    """``||W - W^T||^2 / 2n`` and ``2 (W - W^T) / n``; 20,000 draws, within four standard errors."""
    net = small(kind, 90.0)
    system = net.bind(images(net, 200))
    s = torch.zeros(200, net.n, dtype=torch.float64)
    values = torch.stack([homeostatic(system, s, 1, generator(k)) for k in range(100)])
    w = net.jacobian().detach()
    exact = float((w - w.T).square().sum() / (2 * net.n))
    error = float(values.detach().std()) / 10
    assert float(values.detach().mean()) == pytest.approx(exact, abs=4 * error)
    assert error < 0.02 * exact
    assert float(expected(w)) == pytest.approx(exact)
    values.mean().backward()
    whole = 2 * (w - w.T) / net.n
    for name, weight in net.weight.items():
        post, pre = name.split("_")
        wanted = whole[net.layers[post], net.layers[pre]]
        difference = float((weight.grad - wanted).norm() / wanted.norm())
        assert difference < 0.1
    assert net.input.grad is None
    assert net.bias.grad is None


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_symmetric_network_has_none_in_any_draw(kind):
    """The Jacobian of the membrane dynamics, with the slopes in it, would not be symmetric."""
    net = small(kind, 0.0)
    system = bound(net)
    s = activate(net.activation, settled(system))
    assert abs(float(homeostatic(system, s, 1, generator()))) < 1e-14
    assert float(homeostatic(bound(small(kind, 90.0)), s, 5, generator())) > 1e-3


@pytest.mark.slow
def test_the_estimate_of_convolutions_by_the_whole_jacobian():
    """One draw by matrices, also with one product with the transpose, and its mean."""
    net = small("conv", 90.0)
    system = net.bind(images(net)[:1]).detached()
    s = activate(net.activation, settled(system))
    j = torch.func.jacrev(lambda one: system.field(one[None])[0])(s[0])
    j = j - torch.eye(net.n, dtype=torch.float64)
    e = torch.randn(1, net.n, generator=generator(), dtype=torch.float64)[0]
    by_hand = ((j @ e).square().sum() - e @ j @ j @ e) / net.n
    transposed = ((j @ e).square().sum() - (j.T @ e) @ (j @ e)) / net.n
    found = float(homeostatic(system, s, 1, generator()))
    assert found == pytest.approx(float(by_hand)) == pytest.approx(float(transposed))
    many = [float(homeostatic(system, s, 1, generator(k))) for k in range(300)]
    values = torch.tensor(many)
    mean = float(expected(j))
    assert float(values.mean()) == pytest.approx(mean, abs=4 * float(values.std()) / 300**0.5)


def test_the_gradient_of_convolutions_by_finite_differences():
    net = small("conv", 90.0)
    s = activate(net.activation, settled(bound(net)))

    def value():
        return homeostatic(net.bind(images(net)), s, 2, generator())

    value().backward()
    for weight in (net.down[0], net.up[0]):
        direction = torch.randn(weight.shape, generator=generator(5)).double()
        with torch.no_grad():
            weight.add_(direction, alpha=1e-5)
            more = float(value())
            weight.sub_(direction, alpha=2e-5)
            less = float(value())
            weight.add_(direction, alpha=1e-5)
        by_hand = (more - less) / 2e-5
        assert float((weight.grad * direction).sum()) == pytest.approx(by_hand, rel=1e-5)


def test_vectors_without_a_direction_are_counted_and_left_out():
    found = Alignment({"l1": slice(0, 2), "out": slice(2, 3)})
    one = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    other = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, -1.0]])
    found.add(one, other, torch.tensor([True, True, False]))
    results = found.results()
    assert results["cosine/l1"] == pytest.approx((0.5**0.5 + 1) / 2)
    assert results["converged/l1"] == pytest.approx(0.5**0.5)
    assert results["cosine/out"] == pytest.approx(1 / 3)
    assert (results["cosine/zero"], results["cosine/unconverged"]) == (1, pytest.approx(1 / 3))
    assert cosines(one, other)[1].isfinite()
